// A request while it is being made. It stays in this tab through a reload, and goes with the request or with “cancel”.
import type { CreatePaymentRequestInput } from "../generated/operations";

export interface Draft {
  when: "NOW" | "LATER";
  paymentDays: string;
  window: "NO" | "YES";
  validationDays: string;
  notifyEmail: string;
  rememberEmail: boolean;
  amount: string;
  basketNumber: string;
  collection: "QR_CODE" | "IDENTIFIER";
  customerIdentifier: string;
  label: string;
  customerReference: string;
  sellerIdentifier: string;
}

export type Flow = "A" | "B" | "C" | "D";

const EMPTY: Draft = {
  when: "NOW",
  paymentDays: "",
  window: "NO",
  validationDays: "",
  notifyEmail: "",
  rememberEmail: false,
  amount: "",
  basketNumber: "",
  collection: "QR_CODE",
  customerIdentifier: "",
  label: "",
  customerReference: "",
  sellerIdentifier: "",
};

/** The two questions give one of four flows (P10). */
export function flowOf({ when, window }: Pick<Draft, "when" | "window">): Flow {
  return when === "NOW" ? (window === "NO" ? "A" : "C") : window === "NO" ? "B" : "D";
}

/** A whole number of days from 1 to `most`; null when it is none. */
export function daysOf(typed: string, most: number): number | null {
  const text = typed.trim();
  const days = Number(text);
  return /^\d+$/.test(text) && days >= 1 && days <= most ? days : null;
}

/** What is asked of the server; what the flow does not have is left out. */
export function inputOf(draft: Draft, pointOfSaleId: string, dueOn: string | null): CreatePaymentRequestInput {
  const flow = flowOf(draft);
  const asksByName = flow !== "A" || draft.collection === "IDENTIFIER";
  return {
    pointOfSaleId,
    amount: draft.amount,
    basketNumber: draft.basketNumber,
    customerIdentifier: asksByName ? draft.customerIdentifier.trim() : null,
    paymentDeadline: dueOn,
    ...(draft.window === "YES"
      ? {
          validationDays: Number(draft.validationDays),
          notifyEmail: draft.notifyEmail.trim() || null,
          rememberEmail: draft.rememberEmail,
        }
      : {}),
    label: draft.label.trim() || null,
    customerReference: draft.customerReference.trim() || null,
    sellerIdentifier: draft.sellerIdentifier.trim() || null,
  };
}

/** The key under which this is asked of the server: the same one again for the same thing, through a reload too, so that
 * who has lost the answer asks for nothing twice. */
export function keyOf(userId: string, placeId: string, input: CreatePaymentRequestInput): string {
  const [name, asked] = [`key of ${nameOf(userId, placeId)}`, JSON.stringify(input)];
  const kept = JSON.parse(sessionStorage.getItem(name) ?? "null") as { asked: string; key: string } | null;
  if (kept?.asked === asked) return kept.key;
  const key = crypto.randomUUID();
  sessionStorage.setItem(name, JSON.stringify({ asked, key }));
  return key;
}

function nameOf(userId: string, placeId: string): string {
  return `draft ${userId} ${placeId}`;
}

/** What this user had begun at this place, or a new one that nothing is known of. */
export function begun(userId: string, placeId: string): { draft: Draft; isNew: boolean } {
  const kept = sessionStorage.getItem(nameOf(userId, placeId));
  return { draft: { ...EMPTY, ...(kept ? (JSON.parse(kept) as Partial<Draft>) : {}) }, isNew: kept === null };
}

export function keep(userId: string, placeId: string, draft: Draft): void {
  sessionStorage.setItem(nameOf(userId, placeId), JSON.stringify(draft));
}

export function discard(userId: string, placeId: string): void {
  sessionStorage.removeItem(nameOf(userId, placeId));
  sessionStorage.removeItem(`key of ${nameOf(userId, placeId)}`);
}
