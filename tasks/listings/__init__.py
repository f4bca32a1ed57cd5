"""The lists that can be had as a file, each beside its flow's others."""

from collections.abc import Mapping
from typing import Any, Final

from domain.jobs import JobKind
from tasks.listings.journal import JOURNAL
from tasks.listings.listing import Asked, Listing
from tasks.listings.parties import HOLDERS
from tasks.listings.payments import PAYMENT_REQUESTS
from tasks.listings.reimbursements import REIMBURSEMENTS
from tasks.listings.vouchers import MEMBER_STATEMENTS, SUPPLIER_INVOICES, VOUCHERS

LISTINGS: Final[Mapping[JobKind, Listing[Any]]] = {
    JobKind.EXPORT_PAYMENT_REQUESTS: PAYMENT_REQUESTS,
    JobKind.EXPORT_VOUCHERS: VOUCHERS,
    JobKind.EXPORT_SUPPLIER_INVOICES: SUPPLIER_INVOICES,
    JobKind.EXPORT_MEMBER_STATEMENTS: MEMBER_STATEMENTS,
    JobKind.EXPORT_REIMBURSEMENTS: REIMBURSEMENTS,
    JobKind.EXPORT_HOLDERS: HOLDERS,
    JobKind.EXPORT_JOURNAL: JOURNAL,
}
"""What is listed for each kind of export."""

__all__ = ["LISTINGS", "Asked", "Listing"]
