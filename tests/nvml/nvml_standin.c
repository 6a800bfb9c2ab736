/* Stand-in for libnvidia-ml.so.1, so that nvidia-ml-py runs unpatched on a machine without a GPU.
 *
 * The text file $FAKE_NVML describes what there is and is read again at every call: a test changes a GPU by rewriting
 * it. Lines are `key=value key=value …`; a line that begins with `gpu` begins a GPU, one with `mig` an instance of the
 * GPU before it, one with `process` a process on it (pid, memory). `driver=0` on a line of its own: no driver is loaded;
 * `hang_init=1`: initialising never returns; `error_count=N`: counting the GPUs gives that error.
 * Of a GPU: util total used temp power clock throttle ecc_c ecc_u retired rows_c rows_u rows_failed pcie links nvlink
 * xid lost hang error; -1 (and what is not named) is not supported. `hang=1`: sampling it never returns, until the file
 * says otherwise. Of an instance: slice used total profile.
 *
 *     gcc -shared -fPIC -o libnvidia-ml.so.1 nvml_standin.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINIT = 1, INVAL = 2, UNSUPPORTED = 3, NOTFOUND = 6, SMALL = 7, NODRIVER = 9, TIMEOUT = 10, LOST = 15 };
enum { MAXGPU = 16, MAXMIG = 8, MAXPROC = 16 };
typedef long long num;
typedef struct { num slice, used, total; char profile[32]; } mig_t;
typedef struct {
    num util, total, used, temp, power, clock, throttle, ecc_c, ecc_u, retired, rows_c, rows_u, rows_failed, pcie;
    num links, nvlink, xid, lost, hang, error;
    int migs, processes;
    mig_t mig[MAXMIG];
    num pid[MAXPROC], memory[MAXPROC];
} gpu_t;
typedef struct { int driver, hang_init, error_count, gpus; gpu_t gpu[MAXGPU]; } node_t;

typedef struct { unsigned gpu, memory; } util_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { void *dev; unsigned long long type, data; unsigned gi, ci; } event_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
typedef struct { unsigned start, size; } placement_t;
typedef struct { void *device; unsigned id, profile; placement_t placement; } instance_info_t;

static int up;
/* A handle is the address of a cell: row i is GPU i, column 0 the GPU itself, columns 1.. its instances. */
static char handles[MAXGPU][MAXMIG + 1];

static num field(const char *line, const char *key) {
    size_t n = strlen(key);
    for (const char *p = line; (p = strstr(p, key)); p += n)
        if ((p == line || p[-1] == ' ') && p[n] == '=') return strtoll(p + n + 1, 0, 0);
    return -1;
}

static int load(node_t *node) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : 0;
    char line[1024];
    if (!file) return NODRIVER;
    memset(node, 0, sizeof *node);
    node->driver = 1;
    while (fgets(line, sizeof line, file)) {
        gpu_t *g = node->gpus ? &node->gpu[node->gpus - 1] : 0;
        if (!strncmp(line, "gpu", 3) && node->gpus < MAXGPU) {
            g = &node->gpu[node->gpus++];
#define GET(name) g->name = field(line, #name)
            GET(util); GET(total); GET(used); GET(temp); GET(power); GET(clock); GET(throttle); GET(ecc_c); GET(ecc_u);
            GET(retired); GET(rows_c); GET(rows_u); GET(rows_failed); GET(pcie); GET(links); GET(nvlink); GET(xid);
            GET(lost); GET(hang); GET(error);
        } else if (!strncmp(line, "mig", 3) && g && g->migs < MAXMIG) {
            mig_t *m = &g->mig[g->migs++];
            const char *p = strstr(line, "profile=");
            m->slice = field(line, "slice"); m->used = field(line, "used"); m->total = field(line, "total");
            if (p) sscanf(p + 8, "%31s", m->profile);
        } else if (!strncmp(line, "process", 7) && g && g->processes < MAXPROC) {
            g->pid[g->processes] = field(line, "pid"); g->memory[g->processes++] = field(line, "memory");
        } else {
            if (field(line, "driver") == 0) node->driver = 0;
            if (field(line, "hang_init") == 1) node->hang_init = 1;
            if (field(line, "error_count") > 0) node->error_count = field(line, "error_count");
        }
    }
    fclose(file);
    return node->driver ? OK : NODRIVER;
}

/* The GPU of a handle, and the instance (-1: none); hangs, fails or is lost as the file says. */
static int get(void *h, gpu_t *out, int *mig) {
    node_t node;
    long at = (char *)h - &handles[0][0], i = at / (MAXMIG + 1);
    int r = load(&node);
    if (!up) return UNINIT;
    if (r) return r;
    if (at < 0 || i >= node.gpus) return INVAL;
    while (node.gpu[i].hang == 1) { usleep(10000); if (load(&node) || i >= node.gpus) return INVAL; }
    if (node.gpu[i].lost == 1) return LOST;
    if (node.gpu[i].error > 0) return node.gpu[i].error;
    *out = node.gpu[i];
    *mig = at % (MAXMIG + 1) - 1;
    return *mig >= out->migs ? INVAL : OK;
}

static int put(num value, unsigned *out) { if (value < 0) return UNSUPPORTED; *out = (unsigned)value; return OK; }
#define BEGIN gpu_t g; int mig, r = get(h, &g, &mig); if (r) return r
/* What instances do not have. */
#define BEGIN_GPU BEGIN; if (mig >= 0) return UNSUPPORTED

int nvmlInitWithFlags(unsigned flags) {
    node_t node; int r = load(&node); (void)flags;
    while (!r && node.hang_init) { usleep(10000); r = load(&node); }
    if (!r) up++;
    return r;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { if (!up) return UNINIT; up--; return OK; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { if (!up) return UNINIT; snprintf(s, n, "580.00"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { node_t node; int r = load(&node); if (!up) return UNINIT; if (r) return r; if (node.error_count) return node.error_count; *n = node.gpus; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { node_t node; int r = load(&node); if (!up) return UNINIT; if (r) return r; if ((int)i >= node.gpus) return INVAL; if (node.gpu[i].lost == 1) return LOST; *h = &handles[i][0]; return OK; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { BEGIN; if (mig < 0) snprintf(s, n, "NVIDIA H100 (pretended)"); else snprintf(s, n, "NVIDIA H100 (pretended) MIG %s", g.mig[mig].profile); return OK; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { int i = ((char *)h - &handles[0][0]) / (MAXMIG + 1); BEGIN; if (mig < 0) snprintf(s, n, "GPU-00000000-0000-0000-0000-%012d", i); else snprintf(s, n, "MIG-00000000-0000-0000-%04d-%012d", i, mig); return OK; }
int nvmlDeviceGetUtilizationRates(void *h, util_t *u) { BEGIN_GPU; u->memory = 0; return put(g.util, &u->gpu); }
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m) {
    BEGIN;
    num total = mig < 0 ? g.total : g.mig[mig].total, used = mig < 0 ? g.used : g.mig[mig].used;
    if (total < 0 || used < 0) return UNSUPPORTED;
    m->total = (unsigned long long)total << 20; m->used = (unsigned long long)used << 20; m->free = m->total - m->used;
    return OK;
}
int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *t) { BEGIN_GPU; return sensor ? INVAL : put(g.temp, t); }
int nvmlDeviceGetPowerUsage(void *h, unsigned *p) { BEGIN_GPU; return put(g.power, p); }
int nvmlDeviceGetClockInfo(void *h, int kind, unsigned *c) { BEGIN_GPU; return kind == 1 ? put(g.clock, c) : UNSUPPORTED; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, unsigned long long *t) { BEGIN_GPU; if (g.throttle < 0) return UNSUPPORTED; *t = g.throttle; return OK; }
int nvmlDeviceGetTotalEccErrors(void *h, int kind, int counter, unsigned long long *c) { num v; (void)counter; BEGIN_GPU; v = kind == 1 ? g.ecc_u : g.ecc_c; if (v < 0) return UNSUPPORTED; *c = v; return OK; }
int nvmlDeviceGetRetiredPages(void *h, int cause, unsigned *n, unsigned long long *addresses) {
    BEGIN_GPU;
    if (g.retired < 0) return UNSUPPORTED;
    unsigned have = cause == 1 ? (unsigned)g.retired : 0, room = *n;
    *n = have;
    if (!addresses || room < have) return have ? SMALL : OK;
    for (unsigned i = 0; i < have; i++) addresses[i] = 0x1000ULL * i;
    return OK;
}
int nvmlDeviceGetRemappedRows(void *h, unsigned *c, unsigned *u, unsigned *pending, unsigned *failed) { BEGIN_GPU; if (g.rows_c < 0) return UNSUPPORTED; *c = g.rows_c; *u = g.rows_u < 0 ? 0 : g.rows_u; *pending = 0; *failed = g.rows_failed == 1; return OK; }
int nvmlDeviceGetPcieReplayCounter(void *h, unsigned *c) { BEGIN_GPU; return put(g.pcie, c); }
int nvmlDeviceGetNvLinkErrorCounter(void *h, unsigned link, int kind, unsigned long long *c) { BEGIN_GPU; if (g.links <= (num)link) return INVAL; *c = kind == 0 && g.nvlink > 0 ? g.nvlink : 0; return OK; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, process_t *p) {
    BEGIN;
    unsigned room = *n, have = mig < 0 ? g.processes : 0;
    *n = have;
    if (room < have) return SMALL;
    for (unsigned i = 0; i < have; i++) p[i] = (process_t){g.pid[i], g.memory[i] < 0 ? ~0ULL : (unsigned long long)g.memory[i] << 20, ~0U, ~0U};
    return OK;
}
int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *pending) { BEGIN_GPU; *now = *pending = g.migs > 0; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *n) { BEGIN_GPU; *n = MAXMIG - 1; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned i, void **out) { BEGIN_GPU; if ((int)i >= g.migs) return NOTFOUND; *out = (char *)h + 1 + i; return OK; }
int nvmlDeviceGetGpuInstanceId(void *h, unsigned *id) { BEGIN; if (mig < 0) return INVAL; *id = mig; return OK; }
int nvmlDeviceGetGpuInstanceById(void *h, unsigned id, void **out) { BEGIN_GPU; if ((int)id >= g.migs) return NOTFOUND; *out = (char *)h + 1 + id; return OK; }
int nvmlGpuInstanceGetInfo(void *h, instance_info_t *info) { BEGIN; if (mig < 0) return INVAL; info->id = mig; info->placement.start = g.mig[mig].slice; info->placement.size = 1; return OK; }

int nvmlDeviceGetSupportedEventTypes(void *h, unsigned long long *t) { BEGIN_GPU; *t = 8; return OK; }
/* A set tells of the Xids that come after it was made, as the library does. */
int nvmlEventSetCreate(void **s) {
    node_t node; num *seen = calloc(MAXGPU, sizeof *seen);
    if (!up || !seen || load(&node)) { free(seen); return UNINIT; }
    for (int i = 0; i < node.gpus; i++) seen[i] = node.gpu[i].xid;
    *s = seen;
    return OK;
}
int nvmlEventSetFree(void *s) { free(s); return OK; }
int nvmlDeviceRegisterEvents(void *h, unsigned long long t, void *s) { (void)s; BEGIN_GPU; return t & ~8ULL ? UNSUPPORTED : OK; }
int nvmlEventSetWait_v2(void *s, event_t *e, unsigned ms) {
    node_t node; num *seen = s;
    for (unsigned waited = 0;; waited += 10) {
        if (!load(&node))
            for (int i = 0; i < node.gpus; i++)
                if (node.gpu[i].xid != seen[i]) {
                    seen[i] = node.gpu[i].xid;
                    if (seen[i] > 0) { *e = (event_t){&handles[i][0], 8, seen[i], ~0U, ~0U}; return OK; }
                }
        if (waited >= ms) return TIMEOUT;
        usleep(10000);
    }
}
const char *nvmlErrorString(int r) { return r == OK ? "Success" : r == TIMEOUT ? "Timeout" : r == LOST ? "GPU is lost" : "Error"; }
