"""The flows that bring tables and questions to the store for analysts. One that is added later is named here."""

from typing import Final

from reporting.flows import payments, reimbursements, vouchers
from reporting.store import Flow

FLOWS: Final[tuple[Flow, ...]] = (payments.FLOW, vouchers.FLOW, reimbursements.FLOW)
