import type { GrantInput, Right, UserFragment } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export const RIGHTS: Readonly<Record<Right, Text>> = {
  COLLECT: ["Encaisser", "Collect"],
  VALIDATE: ["Valider", "Validate"],
  EXPORT: ["Exporter", "Export"],
};

/** Rights by the point of sale that they are at. */
export type Grants = Record<string, Right[]>;

export function grantsOf({ grants }: UserFragment): Grants {
  return Object.fromEntries(grants.map(({ pointOfSale, rights }) => [pointOfSale.id, [...rights]]));
}

/** As the API takes them. */
export function given(grants: Grants): GrantInput[] {
  return Object.entries(grants)
    .filter(([, rights]) => rights.length > 0)
    .map(([pointOfSaleId, rights]) => ({ pointOfSaleId, rights: [...rights] }));
}

/** Whether both say the same: other rights end a user's sessions, so that they are sent only when they are others. */
export function same(some: Grants, others: Grants): boolean {
  const told = (grants: Grants) =>
    JSON.stringify(
      given(grants)
        .map(({ pointOfSaleId, rights }) => [pointOfSaleId, ...[...rights].sort()])
        .sort(),
    );
  return told(some) === told(others);
}
