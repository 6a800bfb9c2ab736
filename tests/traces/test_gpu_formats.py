"""One small sample per format, with the values worked out by hand; the public files are in test_public_files.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shunter.scheduler.errors import TraceError
from shunter.traces.read import read
from shunter.traces.tables import Trace

Write = Callable[..., Path]


def column(trace: Trace, name: str) -> list[Any]:
    return trace.jobs.frame[name].to_list()


def test_philly_csv(write_text: Write) -> None:
    text = """timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:01:55,66.0,1,66.0,11cb48
2017-10-09 07:00:55,10.0,16,160.0,6214e9
2017-10-09 07:02:55,20.0,12,240.0,6214e9
2017-10-09 07:03:00,0.0,1,0.0,6214e9
"""
    trace = read(write_text(text))
    assert trace.format == "philly-csv"
    assert column(trace, "job_id") == ["1", "0", "2"]  # rows in file order, sorted by time
    assert column(trace, "submit_s") == [0.0, 60.0, 120.0]
    assert column(trace, "tasks") == [2, 1, 12]  # 16 = 2 × 8; 12 is no multiple of 8, so 12 × 1
    assert column(trace, "gpus") == [8.0, 1.0, 1.0]
    assert column(trace, "group") == ["6214e9", "11cb48", "6214e9"]
    assert trace.start_unix_s == 1507532455.0
    assert trace.cluster.total("gpus") == 2490
    assert trace.cleaning.dropped == {"never ran (run time of 0 or unknown)": 1}
    assert trace.cleaning.adjusted == {"more than 8 GPUs: split into tasks": 2}


def attempt(start: str | None, end: str | None, **more: object) -> dict[str, object]:
    return {"start_time": start, "end_time": end, **more}


def test_philly_attempts(write_text: Write) -> None:
    day = "2017-10-07 "
    jobs = [
        {
            "id": "a",
            "num_gpus": 4,
            "runtime": 1.0,
            "submitted_time": day + "01:00:00",
            "attempts": [
                attempt(day + "01:00:30", day + "01:01:30"),
                attempt(day + "01:02:00", day + "01:03:00"),
            ],
        },
        {"id": "b", "num_gpus": 1, "submitted_time": day + "01:10:00", "attempts": []},
        {
            "jobid": "c",
            "status": "Killed",
            "vc": "v",
            "user": "u",
            "submitted_time": day + "01:20:00",
            "attempts": [
                attempt(
                    day + "01:20:10",
                    day + "01:20:20",
                    detail=[{"ip": "m1", "gpus": ["gpu0", "gpu1"]}, {"ip": "m2", "gpus": ["gpu0"]}],
                ),
                attempt(day + "01:21:00", None),
            ],
        },
    ]
    trace = read(write_text(json.dumps(jobs)))
    assert trace.format == "philly-attempts"
    assert column(trace, "job_id") == ["a", "c"]
    assert column(trace, "duration_s") == [120.0, 10.0]
    assert column(trace, "recorded_wait_s") == [30.0, 10.0]
    assert column(trace, "gpus") == [4.0, 3.0]
    assert column(trace, "outcome") == ["completed", "killed"]
    assert (column(trace, "user"), column(trace, "group")) == ([None, "u"], [None, "v"])
    assert trace.cleaning.dropped == {"never ran (run time of 0 or unknown)": 1}
    assert trace.cleaning.adjusted == {"several attempts joined: run times added up": 1}


def test_philly_attempts_that_are_broken(write_text: Write) -> None:
    with pytest.raises(TraceError, match=r":1:1\d: no valid JSON"):
        read(write_text('[{"attempts" 1, "submitted_time": 2}]'))
    bad = [{"id": "a", "num_gpus": 1, "submitted_time": "then", "attempts": []}]
    with pytest.raises(TraceError, match=r"column 'submitted_time': expected a time .* got 'then'"):
        read(write_text(json.dumps(bad)))
    backwards = [
        {
            "id": "a",
            "num_gpus": 1,
            "submitted_time": "2017-10-07 01:00:00",
            "attempts": [attempt("2017-10-07 02:00:00", "2017-10-07 01:30:00")],
        }
    ]
    with pytest.raises(TraceError, match="expected an end after the start"):
        read(write_text(json.dumps(backwards)))
    with pytest.raises(TraceError, match="expected a list of jobs"):
        read(write_text('{"attempts": [], "submitted_time": 1}'), format="philly-attempts")


def test_genparallel_gpus(write_text: Write) -> None:
    text = """u_id,user,gpu_num,cpu_num,node_num,interval,run_time,wall_time,new_status
0,1,1,4,1,7,84,0,Pass
1,2,16,32,2,94,87,100,Killed
2,1,0,8,1,6,5,0,Failed
"""
    trace = read(write_text(text))
    assert trace.format == "genparallel"
    assert column(trace, "submit_s") == [7.0, 101.0, 107.0]
    assert column(trace, "requested_s") == [None, 100.0, None]
    assert column(trace, "tasks") == [1, 2, 1]
    assert column(trace, "gpus") == [1.0, 8.0, 0.0]
    assert column(trace, "cpus") == [4.0, 16.0, 8.0]
    assert column(trace, "outcome") == ["completed", "killed", "failed"]
    assert trace.cluster.total("gpus") == 16  # [7, 91) holds 1 and [101, 188) holds 16: they do not overlap


def test_genparallel_whole_nodes(write_text: Write) -> None:
    text = """u_id,user,gpu_num,cpu_num,node_num,interval,run_time,wall_time,new_status
0,1,0,32768,512,0,18431.92,21600,Pass
1,1,0,64,1,5,10,3600,Pass
"""
    trace = read(write_text(text))
    assert column(trace, "tasks") == [512, 1]
    assert column(trace, "cpus") == [64.0, 64.0]
    assert trace.cluster.total("cpus") == 4392 * 64


def test_genparallel_sdsc(write_text: Write) -> None:
    text = "Job_Number,Interval,Run_Time,Number_of_Allocated_Processors\n1,0.0,37349,128\n2,10.0,-1,8\n3,5.0,60,4\n"
    trace = read(write_text(text))
    assert column(trace, "job_id") == ["1", "3"]
    assert column(trace, "submit_s") == [0.0, 15.0]  # the interval of the job left out still counts
    assert column(trace, "tasks") == [128, 4]
    assert trace.cluster.total("cpus") == 400


def test_lucid_with_seconds(write_text: Write) -> None:
    text = "job_id,vc,gpu_num,submit_time,duration,fifo_start\n108,v1,1,26143,348,0\n109,v2,8,26144,416,0\n"
    trace = read(write_text(text))
    assert trace.format == "lucid"
    assert column(trace, "submit_s") == [26143.0, 26144.0]
    assert column(trace, "group") == ["v1", "v2"]
    assert trace.start_unix_s is None


def test_lucid_with_time_stamps(write_text: Write) -> None:
    text = """,job_id,user,vc,jobname,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
0,7,u1,v1,a,2,8,1,COMPLETED,2020-04-01 00:00:10,2020-04-01 00:00:12,2020-04-01 00:01:12,60,2
1,8,u2,v1,b,16,64,2,CANCELLED by 5,2020-04-01 00:00:20,2020-04-01 00:00:20,2020-04-01 00:00:50,30,0
2,9,u2,v1,b,0,0,1,FAILED,2020-04-01 00:00:20,2020-04-01 00:00:20,2020-04-01 00:00:50,30,0
"""
    trace = read(write_text(text))
    assert column(trace, "submit_s") == [0.0, 10.0]
    assert trace.start_unix_s == 1585699210.0
    assert column(trace, "outcome") == ["completed", "killed"]
    assert column(trace, "recorded_wait_s") == [2.0, 0.0]
    assert column(trace, "cpus") == [8.0, 32.0]
    assert trace.cleaning.dropped == {"size not known (neither GPUs nor CPUs)": 1}


def test_supercloud(write_text: Write) -> None:
    heading = (
        "id_job,id_user,nodes_alloc,cpus_req,partition,priority,state,timelimit,"
        "time_submit,time_start,time_end,tres_alloc,tres_req,job_type\n"
    )
    rows = (
        "1.60512e+13,4.2e+13,1,20,normal,10239,3,4294967295,1609535912,1609808470,1609808777,"
        '"1=20,2=170000,4=1,5=20","1=20",OTHER\n'
        "1.60512e+13,4.2e+13,2,40,gaia,10243,6,60,1609536070,1609536072,1609536172,"
        '"1=40,2=204800,4=2,1002=4","1=40",OTHER\n'
    )
    trace = read(write_text(heading + rows))
    assert trace.format == "supercloud"
    assert column(trace, "job_id") == ["0", "1"]
    assert column(trace, "tasks") == [1, 2]
    assert column(trace, "cpus") == [20.0, 20.0]
    assert column(trace, "gpus") == [0.0, 2.0]
    assert column(trace, "memory_gib") == [170000 / 1024, 100.0]
    assert column(trace, "requested_s") == [None, 3600.0]
    assert column(trace, "outcome") == ["completed", "killed"]
    assert column(trace, "recorded_wait_s") == [272558.0, 2.0]
    assert trace.start_unix_s == 1609535912.0


PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
openb-pod-0000,12000,16384,1,1000,,LS,Running,0,100,0
openb-pod-0001,6000,12288,1,460,V100M16|V100M32,BE,Failed,10,60,20
openb-pod-0002,8000,8192,0,0,,LS,Pending,20,60,
openb-pod-0003,64000,65536,8,1000,,LS,Succeeded,30,90,30
"""
NODES = "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\nn1,64000,262144,2,P100\nn2,32000,131072,0,\n"


def test_openb(write_text: Write) -> None:
    trace = read(write_text(PODS))
    assert trace.format == "openb"
    assert column(trace, "duration_s") == [100.0, 40.0, 60.0]
    assert column(trace, "recorded_wait_s") == [0.0, 10.0, 0.0]
    assert column(trace, "gpus") == [1.0, 0.46, 8.0]
    assert column(trace, "cpus") == [12.0, 6.0, 64.0]
    assert column(trace, "memory_gib") == [16.0, 12.0, 64.0]
    assert column(trace, "gpu_type") == [None, "V100M16|V100M32", None]
    assert column(trace, "outcome") == ["completed", "failed", "completed"]
    assert trace.cleaning.dropped == {"never scheduled": 1}


def test_openb_lists_that_are_no_trace(write_text: Write) -> None:
    with pytest.raises(TraceError, match="without times"):
        read(write_text("name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,1000,1,1,1000\n"))
    with pytest.raises(TraceError, match="a list of nodes"):
        read(write_text(NODES))


def test_pai_derived(write_text: Write) -> None:
    text = ",job_name,norm_job_submit_time,ddl,A100,V100\n0,a,0.0,inf,1160.0,3385.0\n1,b,5.0,19609.0,4460.0,11452.0\n"
    trace = read(write_text(text))
    assert trace.format == "pai-derived"
    assert column(trace, "duration_s") == [3385.0, 11452.0]
    assert column(trace, "deadline_s") == [None, 19609.0]
    assert trace.header["reference_gpu_type"] == "V100"


def test_alibaba_batch(write_text: Write) -> None:
    text = ",submit_time,duration,cpu,memory,job_id,task_id,instances_num,disk\n0,539,116.5,1.0,0.005,1,2,283,0\n"
    trace = read(write_text(text))
    assert trace.format == "alibaba-batch-2017"
    assert column(trace, "job_id") == ["1.2"]
    assert column(trace, "tasks") == [283]
    assert trace.cluster.total("cpus") == 1313 * 64


def test_google_tasks(write_text: Write) -> None:
    def event(us: int, index: int, kind: int, request: str = "0.5,0.25,0.001") -> str:
        return f"{us},,77,{index},1,{kind},user=,2,9,{request},0"

    rows = [
        event(0, 0, 0),  # was there before the trace
        event(0, 0, 1),
        event(600_000_000, 1, 0),
        event(601_000_000, 1, 1),
        event(611_000_000, 1, 2),  # evicted after 10 s
        event(612_000_000, 1, 0),
        event(613_000_000, 1, 1),
        event(633_000_000, 1, 4),  # finished after another 20 s
        event(640_000_000, 2, 0),
        event(641_000_000, 2, 1),  # still running
        event(650_000_000, 3, 0),
        event(651_000_000, 3, 5),  # killed while it waited
        event(660_000_000, 4, 0, ",,"),
        event(661_000_000, 4, 1, ",,"),
        event(662_000_000, 4, 5, ",,"),
        event(700_000_000, 0, 4),
    ]
    trace = read(write_text("\n".join(rows) + "\n"))
    assert trace.format == "google-2011-tasks"
    assert column(trace, "job_id") == ["77.1", "77.4"]
    assert column(trace, "submit_s") == [600.0, 660.0]
    assert column(trace, "duration_s") == [30.0, 1.0]
    assert column(trace, "recorded_wait_s") == [1.0, 1.0]
    assert column(trace, "outcome") == ["completed", "killed"]
    assert column(trace, "cpus") == [0.5, 0.0]
    assert trace.cleaning.rows_read == 5
    assert trace.cleaning.dropped == {
        "submitted before the trace begins": 1,
        "never scheduled in the file": 1,
        "still running at the end of the file": 1,
    }
    assert trace.cluster.num_nodes == 12583


def test_muri_tiresias_chronus_elasticflow_shockwave_surf(write_text: Write) -> None:
    muri = read(
        write_text(
            "job_id,num_gpu,submit_time,iterations,model_name,batch_size,duration,interval,iteration_time,"
            "resource_time_0,resource_time_1,resource_time_2,priority\n0,16,27000,4,vgg16,16,1500,1,3,8,6,1,0.5\n"
        )
    )
    assert (muri.format, column(muri, "submit_s"), column(muri, "duration_s")) == ("muri", [27.0], [1.5])
    assert (column(muri, "model_class"), column(muri, "tasks")) == (["vgg16"], [2])

    tiresias = read(
        write_text("job_id,num_gpu,submit_time,iterations,model_name,duration,interval\n0,1,5,6,vgg,164,30\n")
    )
    assert (tiresias.format, column(tiresias, "duration_s")) == ("tiresias", [164.0])

    chronus = read(
        write_text(
            "job_id,user,num_gpu,submit_time,iterations,model_name,duration,interval,expect_time_list,"
            "expect_value_list,best_effort,job_type\n0,v,1,10,5,vgg,3,1,20,10,0,strict\n1,v,1,11,5,vgg,3,1,11,10,1,best\n"
        )
    )
    assert (chronus.format, column(chronus, "submit_s")) == ("chronus", [600.0, 660.0])
    assert column(chronus, "deadline_s") == [600.0 + 20 * 60, None]

    elastic = read(
        write_text(
            "job_id,submit_time,real_iteration,model_name,ddl,batch_size,num_gpu,real_duration,duration,iteration\n"
            "0,5,9,vgg16,771,256,1,97,97,9\n"
        )
    )
    assert (elastic.format, column(elastic, "deadline_s")) == ("elasticflow", [771.0])

    fields = ["LM", "python", "dir", "--steps", "1", "13", "2", "gns", "1", "-1.0", "1418", "55"]
    shock = read(write_text("\t".join(fields) + "\n"))
    assert (shock.format, column(shock, "submit_s"), column(shock, "gpus")) == ("shockwave", [55.0], [2.0])

    surf = read(
        write_text(
            "id,submission_time,duration,cpu_count,cpu_capacity,mem_capacity,deferrable,deadline\n"
            "5,1656604920000,1000,16,33600.0,100000,True,1656604930000\n"
        )
    )
    assert (surf.format, column(surf, "submit_s"), column(surf, "deadline_s")) == ("surf-lisa", [0.0], [10.0])
    assert column(surf, "memory_gib") == pytest.approx([100000e6 / 2**30])
    assert surf.start_unix_s == 1656604920.0


BAD_CELLS = [
    ("x", r":3:2: column 'duration': expected a number of at least 0, got 'x'"),
    ("-1", r":3:2: column 'duration': expected a number of at least 0, got '-1'"),
    ("nan", r":3:2: column 'duration': .* got 'nan'"),
    ("inf", r":3:2: column 'duration': .* got 'inf'"),
    ("", r":3:2: column 'duration': expected a number of at least 0"),
    ("1,2", r":3:5: expected 5 columns, got '6'"),
]


@pytest.mark.parametrize(("cell", "message"), BAD_CELLS)
def test_bad_cells_are_named_by_line_and_column(write_text: Write, cell: str, message: str) -> None:
    good = "2017-10-09 07:01:55,66.0,1,66.0,v"
    rows = ["timestamp,duration,num_gpus,gpu_time,cluster", good, good.replace("66.0", cell, 1), good]
    path = write_text("\n".join(rows))
    with pytest.raises(TraceError, match=message):
        read(path)
    trace = read(path, skip_bad=True)
    assert len(trace.jobs) == 2
    assert trace.cleaning.rows_dropped == 1
    assert trace.cleaning.bad_rows[0].line == 3


def test_line_numbers_hold_behind_quotes_that_span_lines(write_text: Write) -> None:
    text = 'job_id,vc,gpu_num,submit_time,duration\n1,"two\nlines, and ""quotes""",1,5,6\n\n2,v,one,5,6\n'
    path = write_text(text)
    with pytest.raises(TraceError, match=r":5:3: column 'gpu_num': .* got 'one'"):
        read(path)
    assert read(path, skip_bad=True).jobs.frame["group"].to_list() == ['two\nlines, and "quotes"']


def test_missing_and_repeated_columns(write_text: Write) -> None:
    with pytest.raises(TraceError, match=r":1: column 'cluster' missing; the file has: timestamp, duration, num_gpus"):
        read(write_text("timestamp,duration,num_gpus\n1,2,3\n"), format="philly-csv")
    with pytest.raises(TraceError, match=r":1:2: column 'a' occurs more than once"):
        read(write_text("a,a\n1,2\n"), format="philly-csv")
    with pytest.raises(TraceError, match="a heading but no rows"):
        read(write_text("timestamp,duration,num_gpus,gpu_time,cluster\n"))
