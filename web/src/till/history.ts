// What the journal says of a request, in words.
import type { Text } from "../lib/language.svelte";

const KINDS: Readonly<Record<string, Text>> = {
  "preq.create": ["Demande créée", "Request made"],
  "preq.change_collection": ["Mode d’encaissement changé", "Asked in another way"],
  "preq.pay": ["Payé par le client", "Paid by the customer"],
  "preq.decline": ["Refusé par le client", "Declined by the customer"],
  "preq.validate": ["Validé", "Validated"],
  "preq.auto_validate": ["Validé d’office à la fin du délai", "Validated as the time ended"],
  "preq.cancel": ["Annulé", "Cancelled"],
  "preq.expire": ["Délai dépassé", "Expired"],
  "preq.warn": ["Rappel envoyé : le délai de validation se termine", "Reminder sent: the time to validate ends"],
};

/** What happened; what a later server adds is told as a change. */
export function happened(kind: string): Text {
  return KINDS[kind] ?? ["Modification", "Change"];
}
