"""What NVML says of the GPUs of this machine, as JSON; a program of its own, since a library is loaded only once."""

from __future__ import annotations

import json

from google.protobuf.json_format import MessageToDict

from shunter.daemon.node import nvml


def main() -> None:
    try:
        driver = nvml.start()
    except nvml.NvmlAbsentError as error:
        print(json.dumps({"absent": str(error)}))  # noqa: T201
        return
    gpus = range(nvml.count())
    found = {
        "driver": driver,
        "described": [MessageToDict(nvml.describe(gpu), preserving_proto_field_name=True) for gpu in gpus],
        "samples": [MessageToDict(nvml.sample(gpu), preserving_proto_field_name=True) for gpu in gpus],
        "xid": str(None if (wait := nvml.watch_xids(len(gpus))) is None else wait(10)),
    }
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
