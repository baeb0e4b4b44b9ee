"""`mudeung profiles`: what can be started, and at what rate."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cli.amounts import seconds
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.profiles import Profile
from quotas.domain.units import InvalidValue, show_duration
from quotas.services import profiles

LIST = (
    Column("code", "profile", "프로필"),
    Column("name", "name", "이름"),
    Column("devices", "devices", "장치"),
    Column("cpu_cores", "cores", "코어"),
    Column("memory_gib", "memory GiB", "메모리 GiB"),
    Column("storage_gib", "storage GiB", "저장소 GiB"),
    Column("rate_gflops", "rate", "요율", Kind.RATE),
    Column("krw_per_device_month", "KRW a device-month", "장치·월 가격(원)", Kind.NUMBER),
    Column("idle_seconds", "idle limit", "유휴 제한", Kind.SECONDS),
    Column("session_seconds", "session limit", "세션 제한", Kind.SECONDS),
)
ONE = (
    *LIST,
    Column("image_code", "image", "이미지"),
    Column("image", "image's reference", "이미지 참조"),
    Column("backend_terms", "terms of backends", "백엔드 항목"),
    Column("position", "position", "순서", Kind.NUMBER),
)
GIB = 2**30
NO_LIMIT = "none"
IdleOption = Annotated[
    str | None,
    typer.Option("--idle", help="Stop a server that computes nothing for so long, as in 2h; none: never."),
]
SessionOption = Annotated[
    str | None,
    typer.Option("--session", help="Stop a server that nobody has extended for so long, as in 12h; none: never."),
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="What can be started: image, devices, cores, memory, storage.", no_args_is_help=True)
    command(group, "list", example="mudeung profiles list")(list_profiles)
    command(group, "show", example="mudeung profiles show cpu-small")(show_profile)
    command(
        group,
        "add",
        example="mudeung profiles add cpu-large --name-ko 'CPU 대형' --name-en 'CPU large' --image notebook --cores 8"
        " --memory-gib 32 --storage-gib 100",
    )(add)
    command(group, "edit", example="mudeung profiles edit h100 --idle 2h --session none")(edit)
    app.add_typer(group, name="profiles")


def list_profiles(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List all profiles with their rates in force."""
    show(session, LIST, [_row(session, view) for view in profiles.list_profiles(session.database, session.now)], output)


def show_profile(
    session: Session,
    code: Annotated[str, typer.Argument(help="Code of the profile.", show_default=False)],
    output: FormatOption = Format.TABLE,
) -> None:
    """Show one profile."""
    for view in profiles.list_profiles(session.database, session.now):
        if view.profile.code == code:
            show_one(session, ONE, _row(session, view), output)
            return
    raise _unknown(code)


def add(  # noqa: PLR0913 - each is one field of a profile
    session: Session,
    code: Annotated[str, typer.Argument(help="a-z, 0-9, single hyphens; a letter first.", show_default=False)],
    *,
    name_ko: Annotated[str, typer.Option(help="Name in Korean.", show_default=False)],
    name_en: Annotated[str, typer.Option(help="Name in English.", show_default=False)],
    image: Annotated[str, typer.Option(help="Code of an image in the catalogue.", show_default=False)],
    cores: Annotated[float, typer.Option(help="Processor cores, as in 2 or 0.5.", show_default=False)],
    memory_gib: Annotated[int, typer.Option(help="Memory in GiB.", show_default=False)],
    storage_gib: Annotated[int, typer.Option(help="Storage in GiB.", show_default=False)],
    device: Annotated[str | None, typer.Option(help="Device model; a CPU profile has none.")] = None,
    devices: Annotated[int, typer.Option(help="How many of them.")] = 0,
    terms: Annotated[str, typer.Option(help="Further terms of backends, a JSON object by backend.")] = "{}",
    position: Annotated[int, typer.Option(help="Place in lists.")] = 100,
    idle: IdleOption = None,
    session_limit: SessionOption = None,
) -> None:
    """Add a profile. It can be started once a rate card has it and it is offered to a project."""
    profile = Profile(
        code=code,
        name_ko=name_ko,
        name_en=name_en,
        image=image,
        cpu_millis=_millis(cores),
        memory_bytes=memory_gib * GIB,
        storage_bytes=storage_gib * GIB,
        device_model=device,
        device_count=devices,
        backend_terms=backend_terms(terms),
        idle_seconds=_limit("idle", idle),
        session_seconds=_limit("session", session_limit),
    )
    profiles.add_profile(session.database, profile, position, actor=session.actor, now=session.now)
    session.say(f"Added {code}; it has no rate yet.", f"{code} 추가됨. 아직 요율이 없습니다.")


def edit(
    session: Session,
    code: Annotated[str, typer.Argument(help="Code of the profile.", show_default=False)],
    idle: IdleOption = None,
    session_limit: SessionOption = None,
) -> None:
    """Set the limits of a profile's servers; what is not given stays as it is."""
    known = profiles.profile(session.database, code)
    if known is None:
        raise _unknown(code)
    if idle is None and session_limit is None:
        raise InvalidValue("limits", "give --idle, --session or both", "--idle, --session 중 하나 이상을 지정하세요")
    idle_seconds = known.idle_seconds if idle is None else _limit("idle", idle)
    session_seconds = known.session_seconds if session_limit is None else _limit("session", session_limit)
    profiles.set_limits(session.database, code, idle_seconds, session_seconds, actor=session.actor, now=session.now)
    session.say(
        f"Set the limits of {code}. Idle: servers that run are judged by it at the next look, within"
        f" {show_duration(session.settings.idleness_seconds)}, and told before they are stopped."
        " Session: it counts from a server's next start or extension.",
        f"{code}의 제한을 설정했습니다. 유휴 제한은 실행 중인 서버에도"
        f" {show_duration(session.settings.idleness_seconds, 'ko')} 안에 적용되며 중지 전에 알립니다."
        " 세션 제한은 다음 시작 또는 연장부터 적용됩니다.",
    )


def _limit(field: str, text: str | None) -> int | None:
    return None if text in (None, NO_LIMIT) else seconds(field, text)


def _unknown(code: str) -> InvalidValue:
    return InvalidValue("profile", f"there is no profile {code!r:.60}", f"프로필 {code!r:.60}이(가) 없습니다")


def _millis(cores: float) -> int:
    millis = cores * 1000
    if not 0 < millis <= 10**9 or millis != int(millis):
        message = f"must be above zero, with up to three decimals, not {cores:g}"
        raise InvalidValue("cores", message, f"0보다 큰 소수점 아래 3자리까지의 수여야 합니다 (입력: {cores:g})")
    return int(millis)


def backend_terms(text: str) -> dict[str, Any]:
    """Return terms by backend from JSON. Raises InvalidValue."""
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict) or not all(isinstance(each, dict) for each in read.values()):
        message = 'must be a JSON object by backend, as in {"docker": {"shm_bytes": 1073741824}}'
        raise InvalidValue("terms", message, '{"docker": {"shm_bytes": 1073741824}}처럼 백엔드별 JSON이어야 합니다')
    return read


def _row(session: Session, view: profiles.ProfileView) -> dict[str, Any]:
    profile = view.profile
    return {
        "code": profile.code,
        "name": profile.name(session.language),
        "devices": f"{profile.device_count} × {profile.device_model}" if profile.device_model else None,
        "cpu_cores": profile.cpu_millis / 1000,
        "memory_gib": profile.memory_bytes / GIB,
        "storage_gib": profile.storage_bytes / GIB,
        "rate_gflops": view.rate_gflops,
        "krw_per_device_month": view.krw_per_device_month,
        "idle_seconds": profile.idle_seconds,
        "session_seconds": profile.session_seconds,
        "image_code": view.image_code,
        "image": profile.image,
        "backend_terms": {name: dict(terms) for name, terms in profile.backend_terms.items()},
        "position": view.position,
    }
