import type { ReportKind, ReportQuery } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

/** The reports there are, those that are read most first. */
export const REPORTS: Readonly<Record<ReportKind, Text>> = {
  DUE: ["Dû aux commerçants", "Owed to merchants"],
  REIMBURSEMENTS: ["Remboursements", "Reimbursements"],
  PAYMENTS: ["Demandes de paiement", "Payment requests"],
  OPERATIONS: ["Opérations par jour", "Operations by day"],
  DEADLINES: ["Échéances à venir", "Deadlines to come"],
  BALANCES: ["Soldes", "Balances"],
  OUTSTANDING: ["Encours", "Outstanding"],
  BREAKAGE: ["Réservé et jamais utilisé", "Reserved and never used"],
  VOUCHERS_BY_SUPPLIER: ["Bons par fournisseur", "Vouchers by supplier"],
  VOUCHERS_BY_MEMBER: ["Bons par adhérent", "Vouchers by member"],
};

/** Those that are not limited to some days. */
export const WITHOUT_DAYS: readonly ReportKind[] = ["BALANCES", "OUTSTANDING"];
/** Those that are not read merchant by merchant. */
export const WITHOUT_MERCHANT: readonly ReportKind[] = ["BALANCES", "VOUCHERS_BY_MEMBER"];

export type Report = NonNullable<ReportQuery["report"]>;

/** Amounts by day, for looking at. */
export interface Drawing {
  /** The days, in order, “2026-11-22”. */
  readonly days: readonly string[];
  readonly series: readonly { readonly label: string; readonly amounts: readonly (number | null)[] }[];
}

/** So many lines can be told apart. */
const MOST_SERIES = 5;

/** What of a report people would rather look at than read: amounts by day. Null where it has no day, or one alone.
 * Amounts that cannot be summed up (the column has no total) are drawn by what was done. */
export function drawn({ columns, totals }: Report, rows: Report["rows"]): Drawing | null {
  const day = columns.findIndex(({ kind }) => kind === "DAY");
  const money = columns.findIndex(({ kind }) => kind === "MONEY");
  if (day < 0 || money < 0) return null;
  const by = totals[money] === null ? columns.findIndex(({ name }) => name === "operation") : -1;
  const sums = new Map<string, Map<string, number>>();
  for (const row of rows) {
    const [at, cents] = [row[day], Math.round(Number(row[money] ?? 0) * 100)];
    if (!at || !cents) continue;
    const label = (by < 0 ? columns[money]?.heading : row[by]) ?? "";
    const sum = sums.get(label) ?? new Map<string, number>();
    sums.set(label, sum.set(at, (sum.get(at) ?? 0) + cents));
  }
  const days = [...new Set([...sums.values()].flatMap((sum) => [...sum.keys()]))].sort();
  if (days.length < 2) return null;
  const weight = (sum: Map<string, number>) => [...sum.values()].reduce((all, cents) => all + Math.abs(cents), 0);
  const largest = [...sums].sort(([, a], [, b]) => weight(b) - weight(a)).slice(0, MOST_SERIES);
  return {
    days,
    series: largest.map(([label, sum]) => ({ label, amounts: days.map((at) => (sum.get(at) ?? 0) / 100) })),
  };
}

/** The instant at which clocks in Paris show this: “2026-11-22T14:30”. */
export function instantInParis(local: string): string {
  const asUtc = Date.parse(`${local}Z`);
  const shown = (at: number) =>
    Date.parse(
      `${new Intl.DateTimeFormat("sv-SE", { timeZone: "Europe/Paris", dateStyle: "short", timeStyle: "medium" }).format(at).replace(" ", "T")}Z`,
    );
  const guess = asUtc - (shown(asUtc) - asUtc);
  return new Date(guess - (shown(guess) - asUtc)).toISOString();
}
