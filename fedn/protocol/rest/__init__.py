"""Payloads of the reducer's REST API, version 1 (`/api/v1`): what is sent and what is answered, as pydantic models.

Only shapes live here, a module a subject. Errors are problem+json, built from `fedn.protocol.errors`; events also come
as server-sent events whose `id` is the event's number, whose `event` is its kind and whose `data` is an EventView.
Times are Unix seconds, sizes bytes. JSON has no NaN: a metric that is not finite is written as "NaN", "Infinity" or
"-Infinity", which pydantic reads back.
"""

from fedn.protocol.rest.accounting import Accounting, ClientAccount, RoundAccount, account
from fedn.protocol.rest.base import API_PREFIX, MAX_PAGE, Page, ProblemView, as_json
from fedn.protocol.rest.federation import EventList, EventView, StatusView, StoreStatus
from fedn.protocol.rest.joining import (
    Assignment,
    AssignmentRequest,
    ClientPage,
    ClientView,
    CombinerHeartbeat,
    CombinerPage,
    CombinerRegistration,
    CombinerView,
    EnrolReply,
    EnrolRequest,
    JoinReply,
    JoinRequest,
    RegistrationReply,
    TokenReply,
    TokenRequest,
)
from fedn.protocol.rest.models import (
    ModelPage,
    ModelView,
    TensorView,
    TrailKey,
    TrailPage,
    TrailVerification,
    ValidationPage,
)
from fedn.protocol.rest.packages import GcReply, GcRequest, PackageActivation, PackagePage, PackageView
from fedn.protocol.rest.sessions import (
    PredictionPage,
    PredictionView,
    RoundPage,
    RoundView,
    SessionPage,
    SessionStart,
    SessionView,
)
from fedn.protocol.rest.statistics import (
    ClientStatistics,
    ClientTotals,
    CombinerStatistics,
    EvaluationStatistics,
    RoundStatistics,
    SessionStatistics,
    Spread,
    round_statistics,
    session_statistics,
)

__all__ = [
    "API_PREFIX",
    "MAX_PAGE",
    "Accounting",
    "Assignment",
    "AssignmentRequest",
    "ClientAccount",
    "ClientPage",
    "ClientStatistics",
    "ClientTotals",
    "ClientView",
    "CombinerHeartbeat",
    "CombinerPage",
    "CombinerRegistration",
    "CombinerStatistics",
    "CombinerView",
    "EnrolReply",
    "EnrolRequest",
    "EvaluationStatistics",
    "EventList",
    "EventView",
    "GcReply",
    "GcRequest",
    "JoinReply",
    "JoinRequest",
    "ModelPage",
    "ModelView",
    "PackageActivation",
    "PackagePage",
    "PackageView",
    "Page",
    "PredictionPage",
    "PredictionView",
    "ProblemView",
    "RegistrationReply",
    "RoundAccount",
    "RoundPage",
    "RoundStatistics",
    "RoundView",
    "SessionPage",
    "SessionStart",
    "SessionStatistics",
    "SessionView",
    "Spread",
    "StatusView",
    "StoreStatus",
    "TensorView",
    "TokenReply",
    "TokenRequest",
    "TrailKey",
    "TrailPage",
    "TrailVerification",
    "ValidationPage",
    "account",
    "as_json",
    "round_statistics",
    "session_statistics",
]
