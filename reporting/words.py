"""What the codes in reports are called by people: the store keeps codes, a screen and a workbook show words."""

from collections.abc import Mapping
from typing import Final

from domain import payments, reimbursements
from domain.ledger import AccountKind
from domain.texts import Text

Words = Mapping[str, Text]

ACCOUNT_KINDS: Final[Words] = {
    AccountKind.FUNDING: Text("Valeur mise en circulation", "Value in circulation"),
    AccountKind.WALLET: Text("Portefeuilles", "Wallets"),
    AccountKind.HELD: Text("Réservé", "Reserved"),
    AccountKind.MERCHANT: Text("Dû aux commerçants", "Owed to merchants"),
    AccountKind.GUARANTEE: Text("Garanties pour les adhérents", "Guarantees for members"),
    AccountKind.DEBT: Text("Dû par les adhérents", "Owed by members"),
    AccountKind.TRANSIT: Text("Virements en cours", "Transfers under way"),
    AccountKind.BANK: Text("Payé par la banque", "Paid by the bank"),
    AccountKind.COMMISSION: Text("Commissions", "Commissions"),
}
FLOWS: Final[Words] = {
    "payments": Text("Demandes de paiement", "Payment requests"),
    "vouchers": Text("Bons", "Vouchers"),
    "reimbursements": Text("Remboursements", "Reimbursements"),
    "wallets": Text("Portefeuilles", "Wallets"),
}
STATUSES: Final[Words] = {
    **{str(status): label for status, label in reimbursements.STATUS_LABELS.items()},
    **{str(status): label for status, label in payments.STATUS_LABELS.items()},
}
VARIANTS: Final[Words] = {
    payments.PaymentFlow.IMMEDIATE: Text("Immédiat", "Immediate"),
    payments.PaymentFlow.DEFERRED: Text("Différé", "Deferred"),
    payments.PaymentFlow.IMMEDIATE_WITH_VALIDATION: Text("Immédiat, à valider", "Immediate, to validate"),
    payments.PaymentFlow.DEFERRED_WITH_VALIDATION: Text("Différé, à valider", "Deferred, to validate"),
}
REASONS: Final[Words] = {
    "credit": Text("Crédit", "Credit"),
    "payment": Text("Paiement", "Payment"),
    "validation": Text("Validation", "Validation"),
    "auto_validation": Text("Validation automatique", "Automatic validation"),
    "guarantee": Text("Garantie", "Guarantee"),
    "invoice": Text("Facture", "Invoice"),
    "bill": Text("Facture refacturée", "Invoice billed"),
    "excess": Text("Dépassement", "Excess"),
    "reimbursement": Text("Remboursement", "Reimbursement"),
}
WHY_UNUSED: Final[Words] = {
    "EXPIRED": Text("Expiré", "Expired"),
    "CANCELLED": Text("Annulé", "Cancelled"),
    "UNUSED_PART": Text("Reste non utilisé", "Unused rest"),
}
DEADLINES: Final[Words] = {
    "payment": Text("Fin du délai de paiement", "End of the time to pay"),
    "validation": Text("Fin du délai de validation", "End of the time to validate"),
    "expiry": Text("Fin de validité", "End of validity"),
    "transfer": Text("Virement", "Transfer"),
}
OPERATIONS: Final[Words] = {
    "hold.create": Text("Porteur créé", "Holder made"),
    "hold.update": Text("Porteur modifié", "Holder changed"),
    "hold.credit": Text("Portefeuille crédité", "Wallet credited"),
    "preq.create": Text("Demande créée", "Request made"),
    "preq.change_collection": Text("Mode d’encaissement changé", "Collection mode changed"),
    "preq.pay": Text("Payée", "Paid"),
    "preq.validate": Text("Validée", "Validated"),
    "preq.auto_validate": Text("Validée automatiquement", "Validated automatically"),
    "preq.cancel": Text("Annulée", "Cancelled"),
    "preq.decline": Text("Refusée par le client", "Declined by the customer"),
    "preq.expire": Text("Expirée", "Expired"),
    "preq.warn": Text("Fin de délai annoncée", "Deadline announced"),
    "vchr.request": Text("Bon émis", "Voucher issued"),
    "vchr.reveal": Text("Code tiré", "Code drawn"),
    "vchr.deliver": Text("Bon livré", "Voucher delivered"),
    "vchr.cancel": Text("Bon annulé", "Voucher cancelled"),
    "vchr.expire": Text("Bon expiré", "Voucher expired"),
    "vchr.verify": Text("Code vérifié", "Code verified"),
    "vchr.wrong_code": Text("Code erroné", "Wrong code"),
    "vchr.block": Text("Bon bloqué", "Voucher blocked"),
    "vchr.unblock": Text("Bon débloqué", "Voucher unblocked"),
    "vchr.invoice": Text("Bon facturé", "Voucher invoiced"),
    "vchr.settle": Text("Bon réglé", "Voucher settled"),
    "vchr.reopen": Text("Règlement du bon revenu", "Voucher’s settlement came back"),
    "sinv.record": Text("Facture enregistrée", "Invoice recorded"),
    "sinv.pay_excess": Text("Dépassement payé", "Excess paid"),
    "sinv.refuse_excess": Text("Dépassement refusé", "Excess refused"),
    "sinv.state": Text("Facture relevée", "Invoice stated"),
    "reim.create": Text("Remboursement préparé", "Reimbursement prepared"),
    "reim.send": Text("Remboursement transmis", "Reimbursement sent"),
    "reim.settle": Text("Remboursement réglé", "Reimbursement settled"),
    "reim.reject": Text("Remboursement rejeté", "Reimbursement rejected"),
    "reim.return": Text("Virement revenu", "Transfer came back"),
}
