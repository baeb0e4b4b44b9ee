"""What the example centre has: invented organisations, people, projects and their days. How it is loaded: `example`.

Days count from the day of loading, at 00:00 in Korea. The awards that run on that day come to 10.74 PF, on healthy
devices of 8.85 PF: the sums of the centre's first year.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from quotas.domain.people import MembershipRole, Organisation, PlatformRole
from quotas.domain.profiles import Profile
from quotas.domain.projects import ProjectKind
from quotas.domain.rates import Precision
from quotas.domain.units import HOUR_SECONDS, PPM

GIB = 2**30
OPERATOR, REVIEWER = "operator", "reviewer"
REFERENCE = Precision.FP32
LEARNERS = 8
DEMO_PROJECT = "vision-drive"
IDLE_SECONDS = 2 * HOUR_SECONDS
"""So long a device may be held asleep."""
NEXT_MONTH = 10_000
"""Stands for the first day of the next month where a plan starts."""


@dataclass(frozen=True)
class PersonPlan:
    """A person; with an `account_*` text an account with a password is made, whose role the text says."""

    username: str
    display_name: str
    organisation: str | None
    language: str = "ko"
    roles: frozenset[PlatformRole] = frozenset()
    account_ko: str = ""
    account_en: str = ""


@dataclass(frozen=True)
class SessionPlan:
    """A run of the past: `person` on `profile`, from `hour` o'clock `days_ago` days ago, for `minutes`."""

    person: str
    profile: str
    days_ago: int
    hour: int
    minutes: int


@dataclass(frozen=True)
class ProjectPlan:
    """A project, and what became of it. Days count from today; `first_day` and `last_day` bound the award."""

    code: str
    title_ko: str
    title_en: str
    organisation: str
    pi: str
    gflops: int
    first_day: int
    last_day: int
    kind: ProjectKind = ProjectKind.RESEARCH
    burst_ppm: int = PPM
    utilisation_ppm: int = PPM
    approved: bool = True
    consent: bool = False
    tranches_ppm: tuple[int, ...] = ()
    rejection: str = ""
    ended_day: int | None = None
    members: tuple[tuple[str, MembershipRole], ...] = ()
    profiles: tuple[str, ...] = ("cpu-small", "cpu-large", "h100-1g", "h100-3g", "h100", "h100-x2")
    sessions: tuple[SessionPlan, ...] = field(default=())


ORGANISATIONS: tuple[Organisation, ...] = (
    Organisation("saebyeok", "새벽로보틱스", "Saebyeok Robotics", "startup"),
    Organisation("onmaum", "온마음헬스", "Onmaum Health", "startup"),
    Organisation(
        "narae-lab", "나래대학교 지능시스템 연구실", "Narae University, Intelligent Systems Lab", "university"
    ),
    Organisation("bitgoeul-data", "빛고을데이터진흥원", "Bitgoeul Data Agency", "agency"),
)

LEARNER_NAMES = ("강도윤", "문서아", "배시우", "신하은", "양지호", "오채원", "임은우", "조수아")

PEOPLE: tuple[PersonPlan, ...] = (
    PersonPlan(
        "operator",
        "정하늘",
        "bitgoeul-data",
        roles=frozenset({PlatformRole.OPERATOR}),
        account_ko="운영자",
        account_en="operator of the platform",
    ),
    PersonPlan(
        "reviewer",
        "윤가람",
        "bitgoeul-data",
        roles=frozenset({PlatformRole.REVIEWER}),
        account_ko="심사위원",
        account_en="reviewer of applications",
    ),
    PersonPlan(
        "auditor",
        "서다온",
        "bitgoeul-data",
        roles=frozenset({PlatformRole.AUDITOR}),
        account_ko="감사",
        account_en="auditor",
    ),
    PersonPlan(
        "pi", "한지우", "saebyeok", account_ko="연구책임자 (vision-drive)", account_en="PI of vision-drive and others"
    ),
    PersonPlan(
        "member", "김민준", "saebyeok", account_ko="참여연구원 (vision-drive)", account_en="member of vision-drive"
    ),
    PersonPlan(
        "instructor",
        "이소담",
        "narae-lab",
        account_ko="강사 (ml-basics)",
        account_en="instructor of the course ml-basics",
    ),
    *(
        PersonPlan(
            f"learner{number}",
            name,
            "narae-lab",
            account_ko="수강생 (ml-basics)",
            account_en="learner of the course ml-basics",
        )
        for number, name in enumerate(LEARNER_NAMES[:LEARNERS], start=1)
    ),
    PersonPlan("newcomer", "Alex Morgan", None, "en", account_ko="과제 없음", account_en="in no project yet"),
    PersonPlan("nari.park", "박나리", "narae-lab"),
    PersonPlan("taeyang.choi", "최태양", "onmaum"),
    PersonPlan("bora.jang", "장보라", "bitgoeul-data"),
    PersonPlan("haram.noh", "노하람", "saebyeok"),
)

_MEMBER, _INSTRUCTOR, _LEARNER = MembershipRole.MEMBER, MembershipRole.INSTRUCTOR, MembershipRole.LEARNER

PROJECTS: tuple[ProjectPlan, ...] = (
    ProjectPlan(
        DEMO_PROJECT,
        "도심 자율주행 인식 모델",
        "Perception models for driving in the city",
        "saebyeok",
        "pi",
        85_920,
        -30,
        335,
        tranches_ppm=(PPM // 2, PPM // 2),
        members=(("member", _MEMBER), ("haram.noh", _MEMBER)),
        profiles=("cpu-small", "cpu-large", "h100-1g", "h100"),
        sessions=(
            SessionPlan("pi", "cpu-small", 27, 9, 95),
            SessionPlan("member", "h100-1g", 26, 10, 340),
            SessionPlan("haram.noh", "cpu-large", 20, 13, 210),
            SessionPlan("member", "h100", 13, 9, 425),
            SessionPlan("pi", "cpu-small", 9, 16, 40),
            SessionPlan("member", "h100-1g", 6, 14, 185),
            SessionPlan("haram.noh", "h100", 2, 1, 610),
        ),
    ),
    ProjectPlan(
        "speech-ko",
        "한국어 방언 음성 인식",
        "Recognition of spoken Korean dialects",
        "narae-lab",
        "nari.park",
        3_000,
        -45,
        15,
        burst_ppm=5 * PPM,
        utilisation_ppm=PPM // 20,
        members=(("member", _MEMBER),),
        profiles=("cpu-small", "h100-1g"),
        sessions=(
            SessionPlan("nari.park", "h100-1g", 33, 9, 480),
            SessionPlan("nari.park", "h100-1g", 24, 9, 480),
            SessionPlan("member", "h100-1g", 16, 9, 480),
            SessionPlan("nari.park", "h100-1g", 8, 13, 60),
        ),
    ),
    ProjectPlan(
        "ml-basics",
        "기계학습 기초 실습",
        "Machine learning, a first course",
        "narae-lab",
        "nari.park",
        75_000,
        -20,
        95,
        kind=ProjectKind.COURSE,
        utilisation_ppm=PPM // 10,
        consent=True,
        members=(
            ("instructor", _INSTRUCTOR),
            *((f"learner{number}", _LEARNER) for number in range(1, LEARNERS + 1)),
        ),
        profiles=("cpu-small", "h100-1g"),
        sessions=(SessionPlan("instructor", "cpu-small", 7, 8, 115),),
    ),
    ProjectPlan(
        "lidar-maps",
        "라이다 정밀지도",
        "Precise maps from lidar",
        "saebyeok",
        "pi",
        70_000,
        -400,
        -35,
        ended_day=-35,
        members=(("member", _MEMBER),),
        profiles=("cpu-small", "h100-1g", "h100"),
        sessions=(SessionPlan("pi", "h100", 300, 9, 480), SessionPlan("member", "h100-1g", 120, 14, 240)),
    ),
    ProjectPlan(
        "harbor-watch",
        "항만 영상 관제",
        "Watching a harbour by camera",
        "saebyeok",
        "pi",
        40_000,
        -190,
        -10,
        members=(("member", _MEMBER),),
        profiles=("cpu-small", "h100-1g"),
    ),
    ProjectPlan(
        "storm-forecast",
        "집중호우 단기 예측",
        "Forecasts of heavy rain for the next hours",
        "bitgoeul-data",
        "bora.jang",
        400_000,
        NEXT_MONTH,
        180,
        consent=True,
        members=(("pi", _MEMBER),),
    ),
    ProjectPlan(
        "drug-screen",
        "신약 후보 물질 선별",
        "Screening of candidate drugs",
        "onmaum",
        "taeyang.choi",
        600_000,
        20,
        385,
        approved=False,
    ),
    ProjectPlan(
        "chat-companion",
        "어르신 말벗 챗봇",
        "A chat companion for the elderly",
        "onmaum",
        "taeyang.choi",
        5_000_000,
        10,
        375,
        approved=False,
        rejection="데이터 확보 계획이 신청 규모에 미치지 못합니다. The plan for data does not support the size.",
    ),
    ProjectPlan(
        "llm-korean",
        "한국어 거대언어모델",
        "A large language model for Korean",
        "narae-lab",
        "nari.park",
        2_400_000,
        -120,
        245,
    ),
    ProjectPlan(
        "digital-twin",
        "제조 공정 디지털 트윈",
        "A digital twin of a factory",
        "saebyeok",
        "haram.noh",
        1_900_000,
        -110,
        255,
    ),
    ProjectPlan(
        "protein-fold",
        "단백질 구조 예측",
        "Prediction of protein structures",
        "onmaum",
        "taeyang.choi",
        1_600_000,
        -100,
        265,
    ),
    ProjectPlan(
        "video-gen",
        "지역 문화 영상 생성",
        "Generated films of local culture",
        "bitgoeul-data",
        "bora.jang",
        1_500_000,
        -90,
        275,
    ),
    ProjectPlan(
        "satellite-watch",
        "위성 영상 산림 감시",
        "Forests watched from satellites",
        "bitgoeul-data",
        "bora.jang",
        1_276_080,
        -80,
        285,
    ),
    ProjectPlan(
        "materials-ai",
        "배터리 소재 탐색",
        "A search for battery materials",
        "narae-lab",
        "nari.park",
        1_000_000,
        -25,
        340,
        consent=True,
    ),
    ProjectPlan(
        "traffic-sim",
        "도시 교통 시뮬레이션",
        "Simulation of city traffic",
        "saebyeok",
        "haram.noh",
        900_000,
        -15,
        350,
        consent=True,
    ),
)
"""Running today: 85,920 + 3,000 + 75,000 + 2,400,000 + 1,900,000 + 1,600,000 + 1,500,000 + 1,276,080 + 1,000,000
+ 900,000 = 10,740,000 GFLOPS."""

_PROFILES: tuple[Profile, ...] = (
    Profile("cpu-small", "CPU 소형 (1코어)", "CPU, small (1 core)", "scientific", 1_000, 2 * GIB, 10 * GIB),
    Profile("cpu-large", "CPU 대형 (4코어)", "CPU, large (4 cores)", "scientific", 4_000, 8 * GIB, 20 * GIB),
    Profile(
        "h100-1g",
        "H100 분할 1g (10 GB)",
        "H100 slice 1g (10 GB)",
        "scientific",
        2_000,
        8 * GIB,
        50 * GIB,
        "h100-mig-1g.10gb",
        1,
    ),
    Profile(
        "h100-3g",
        "H100 분할 3g (40 GB)",
        "H100 slice 3g (40 GB)",
        "scientific",
        4_000,
        16 * GIB,
        100 * GIB,
        "h100-mig-3g.40gb",
        1,
    ),
    Profile("h100", "H100 1장 (80 GB)", "H100 (80 GB)", "scientific", 8_000, 64 * GIB, 200 * GIB, "h100", 1),
    Profile("h100-x2", "H100 2장 (160 GB)", "2 × H100 (160 GB)", "scientific", 16_000, 128 * GIB, 400 * GIB, "h100", 2),
    Profile("npu-rngd", "NPU RNGD 1장", "NPU, FuriosaAI RNGD", "scientific", 4_000, 16 * GIB, 100 * GIB, "rngd", 1),
)
PROFILES: tuple[Profile, ...] = tuple(
    replace(each, idle_seconds=IDLE_SECONDS) if each.device_count else each for each in _PROFILES
)
