// The list's filters, as they stand in the address: back, reload and a link to a colleague show the same.
import type { PaymentRequestFilter, PaymentRequestOrder, PaymentRequestStatus } from "../generated/operations";
import { oneOf } from "../lib/choices";
import { centsOf, plusDays } from "../lib/format";
import type { Text } from "../lib/language.svelte";
import { STATUSES } from "./statuses";

type Flow = NonNullable<PaymentRequestFilter["flow"]>[number];
type Collection = NonNullable<PaymentRequestFilter["collection"]>[number];

export const FLOWS: Readonly<Record<Flow, Text>> = {
  IMMEDIATE: ["Paiement immédiat", "Immediate payment"],
  DEFERRED: ["Paiement différé", "Deferred payment"],
  IMMEDIATE_WITH_VALIDATION: ["Pré-réservation immédiate", "Immediate pre-booking"],
  DEFERRED_WITH_VALIDATION: ["Pré-réservation différée", "Deferred pre-booking"],
};

export const COLLECTIONS: Readonly<Record<Collection, Text>> = {
  QR_CODE: ["QR code", "QR code"],
  IDENTIFIER: ["Identifiant", "Identifier"],
  EMAIL: ["E-mail", "E-mail"],
};

export const ORDERS: Readonly<Record<PaymentRequestOrder, Text>> = {
  LAST_ACTION: ["Dernière action d’abord", "Latest action first"],
  OLDEST_ACTION: ["Action la plus ancienne d’abord", "Oldest action first"],
  NEWEST: ["Demande la plus récente d’abord", "Newest request first"],
  OLDEST: ["Demande la plus ancienne d’abord", "Oldest request first"],
  AMOUNT: ["Montant le plus élevé d’abord", "Highest amount first"],
  LOWEST_AMOUNT: ["Montant le plus faible d’abord", "Lowest amount first"],
  BASKET_NUMBER: ["N° de panier", "Basket number"],
};

/** Those that are folded away until they are used. */
export const FOLDED = ["flow", "collection", "since", "until", "min", "max", "minReceived", "maxReceived"] as const;

export interface Wanted {
  readonly status: PaymentRequestStatus | null;
  readonly place: string | null;
  readonly order: PaymentRequestOrder;
  /** All conditions but the status, which live updates follow too. */
  readonly but: PaymentRequestFilter;
  readonly folded: number;
  readonly any: boolean;
}

export function wantedOf(query: URLSearchParams): Wanted {
  const given = (name: string) => query.get(name) || null;
  const status = oneOf(STATUSES, given("status"));
  const [flow, collection] = [oneOf(FLOWS, given("flow")), oneOf(COLLECTIONS, given("collection"))];
  const [since, until] = [dayIn(given("since")), dayIn(given("until"))];
  const amounts = { min: "minAmount", max: "maxAmount", minReceived: "minReceived", maxReceived: "maxReceived" };
  const but: PaymentRequestFilter = {
    ...(given("search") ? { search: given("search") } : {}),
    ...(flow ? { flow: [flow] } : {}),
    ...(collection ? { collection: [collection] } : {}),
    ...(since ? { since: startOfDay(since) } : {}),
    ...(until ? { until: startOfDay(plusDays(until, 1)) } : {}),
    ...Object.fromEntries(
      Object.entries(amounts).flatMap(([name, as]) => {
        const typed = given(name);
        // What is no amount is said at its field.
        return typed !== null && centsOf(typed) !== null ? [[as, typed]] : [];
      }),
    ),
  };
  return {
    status,
    place: given("place"),
    order: oneOf(ORDERS, given("order")) ?? "LAST_ACTION",
    but,
    folded: FOLDED.filter((name) => given(name)).length,
    any: status !== null || given("place") !== null || Object.keys(but).length > 0,
  };
}

function dayIn(text: string | null): string | null {
  return text !== null && /^[12]\d{3}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text)) ? text : null;
}

/** The instant at which a day begins in Paris, which is an hour or two ahead of UTC. */
export function startOfDay(iso: string): string {
  const summer = new Date(`${iso}T00:00:00+02:00`);
  const hour = new Intl.DateTimeFormat("en-GB", { timeZone: "Europe/Paris", hour: "2-digit" }).format(summer);
  return (hour === "00" ? summer : new Date(`${iso}T00:00:00+01:00`)).toISOString();
}
