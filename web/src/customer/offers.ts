import type { Tone } from "../components/Pill.svelte";
import type { OfferFragment } from "../generated/operations";

/** The shape of a status, to who pays. */
export const TONES: Readonly<Record<string, Tone>> = {
  AWAITING_PAYMENT: "todo",
  TO_VALIDATE: "good",
  VALIDATED: "good",
  CANCELLED: "bad",
};

/** Whether it can still be paid. */
export function isOpen(offer: OfferFragment): boolean {
  return offer.allowedActions.includes("PAY");
}

/** Whether it was paid, and the money has not gone back; by somebody else where `amountPaid` is null. */
export function isPaid(offer: OfferFragment): boolean {
  return offer.status === "VALIDATED" || offer.status === "TO_VALIDATE";
}

/** The token in what a QR code says or somebody has copied: an address that ends in /p/ and a token, or the token alone;
 * null for anything else. Which server an address names does not matter: only ours is asked. */
export function tokenIn(text: string): string | null {
  const token = /^(?:https?:\/\/[^/\s]+\/(?:p|offers)\/)?([\w-]{20,80})\/?$/.exec(text.trim());
  return token?.[1] ?? null;
}
