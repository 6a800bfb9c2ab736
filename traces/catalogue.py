"""Public logs that ``shunter traces fetch`` knows: where they lie, whom to thank, and what they must contain.

The Parallel Workloads Archive (Feitelson, Tsafrir & Krakov, JPDC 74(10), 2014) asks that a publication names the
archive and the people who provided the log; each log's header repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

from shunter.scheduler.errors import UsageError, nearest

ARCHIVE = "https://www.cs.huji.ac.il/labs/parallel/workload"
TERMS = "free for research with acknowledgement of the archive and of the log's providers"


@dataclass(frozen=True, slots=True)
class Entry:
    """A public log.

    Attributes:
        name: Name for ``fetch``, the file's name without its endings.
        url: Where the file lies.
        machine: What ran there.
        acknowledge: Whom the log's header asks to thank.
        sha256: Hash of the unpacked content; None where no verified copy was at hand.
    """

    name: str
    url: str
    machine: str
    acknowledge: str
    sha256: str | None = None


def _log(folder: str, name: str, machine: str, acknowledge: str, sha256: str | None = None) -> Entry:
    return Entry(name, f"{ARCHIVE}/{folder}/{name}.swf.gz", machine, acknowledge, sha256)


CATALOGUE: tuple[Entry, ...] = (
    _log(
        "l_sdsc_sp2",
        "SDSC-SP2-1998-4.2-cln",
        "IBM SP2, 128 CPUs, 1998-2000",
        "Victor Hazlewood",
        "2bb635f4b5793f52bd49ccb8fd913d95f9c5be6346925162cadcaf0117e28cf2",
    ),
    _log(
        "l_ctc_sp2",
        "CTC-SP2-1996-3.1-cln",
        "IBM SP2, 338 CPUs, 1996-1997",
        "Dan Dwyer and Steve Hotovy",
        "8e33a9b597e1ddda2d2164347bac08c9444e1a2620a7947df52f0a1622ec4cde",
    ),
    _log(
        "l_kth_sp2",
        "KTH-SP2-1996-2.1-cln",
        "IBM SP2, 100 CPUs, 1996-1997",
        "Lars Malinowsky",
        "fba36494c4e4257f72182e8b629ebb0bcb054b3b82851ef957445bd627adcc87",
    ),
    _log(
        "l_cea_curie",
        "CEA-Curie-2011-2.1-cln",
        "Curie, 93,312 CPUs, 2011-2012",
        "Joseph Emeras, CEA/CNRS",
        "b732a04aea71e2f154c8feee580be549d0bba1462bc91ec581944cb3dd6d442d",
    ),
    _log(
        "l_ricc",
        "RICC-2010-2",
        "RICC, 8,192 CPUs, 2010",
        "Motoyoshi Kurokawa, RIKEN",
        "986a2a12df85adc3c2a2eb80a31b4ff9a056b92637526ee53fb70637b1bf0518",
    ),
    _log(
        "l_llnl_atlas",
        "LLNL-Atlas-2006-2.1-cln",
        "Atlas, 9,216 CPUs, 2006-2007",
        "Moe Jette, LLNL",
        "8b3aaab739fa0bda8abaccc37c207d0b19d9d147b19e7f47a1641133a56fd07f",
    ),
    _log(
        "l_sdsc_par",
        "SDSC-Par-1996-3.1-cln",
        "Intel Paragon, 400 CPUs, 1996",
        "Reagan Moore and Allen Downey",
        "fcb46fa6462b7ac460963025749f604f28b2e813101edd082a720842e80a7aa8",
    ),
    _log(
        "l_nasa_ipsc",
        "NASA-iPSC-1993-3.1-cln",
        "Intel iPSC/860, 128 CPUs, 1993",
        "Bill Nitzberg",
        "9d997a2c20a7f7b0b6d81638d756ce8b2c524c4f2e9ec78da36001743ca33d76",
    ),
    _log(
        "l_lcg",
        "LCG-2005-1",
        "LCG grid, 24,515 CPUs, 2005",
        "Hui Li",
        "f8e60cbd08ca990bdd39effc3b3787d7e60539419e2345661c0d5c3b4fa60f4e",
    ),
    _log("l_metacentrum", "METACENTRUM-2009-2", "MetaCentrum grid, 2009", "Dalibor Klusacek and MetaCentrum"),
    _log("l_hpc2n", "HPC2N-2002-2.2-cln", "Seth, 240 CPUs, 2002-2006", "Ake Sandgren"),
    _log(
        "l_sdsc_blue",
        "SDSC-BLUE-2000-4.2-cln",
        "Blue Horizon, 1,152 CPUs, 2000-2003",
        "Travis Earheart, Nancy Wilkins-Diehr",
    ),
    _log(
        "l_anl_int", "ANL-Intrepid-2009-1", "Blue Gene/P, 163,840 CPUs, 2009", "Susan Coghlan, Narayan Desai, Wei Tang"
    ),
    _log("l_llnl_thunder", "LLNL-Thunder-2007-1.1-cln", "Thunder, 4,008 CPUs, 2007", "Moe Jette, LLNL"),
    _log("l_kit_fh2", "KIT-FH2-2016-1", "ForHLR II, 24,048 CPUs, 2016-2018", "Karlsruhe Institute of Technology"),
)
"""Hashes were taken from copies of the archive's files; a log without one is fetched without that check."""


def find(name: str) -> Entry:
    """The entry of that name, whatever the case.

    Raises:
        UsageError: There is none; suggests the nearest.
    """
    for entry in CATALOGUE:
        if entry.name.lower() == name.lower():
            return entry
    raise UsageError(f"unknown log {name!r}{nearest(name, [entry.name for entry in CATALOGUE])}")
