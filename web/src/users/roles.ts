import type { Role } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export const ROLES: Readonly<Record<Role, Text>> = {
  ISSUER_ADMIN: ["Administrateur", "Administrator"],
  ISSUER_AGENT: ["Agence", "Agency"],
  MERCHANT_MANAGER: ["Signataire d’un commerçant", "Signatory of a merchant"],
  MERCHANT_STAFF: ["Personnel d’un commerçant", "Staff of a merchant"],
  HOLDER: ["Titulaire", "Holder"],
};

const OF_A_MERCHANT: readonly Role[] = ["MERCHANT_STAFF", "MERCHANT_MANAGER"];
const OF_THE_ISSUER: readonly Role[] = ["ISSUER_AGENT", "ISSUER_ADMIN"];

/** The roles that one of this role gives to others (P4): administrators are made by administrators, a signatory makes
 * staff. The server decides. */
export function given(by: Role | undefined): readonly Role[] {
  if (by === "ISSUER_ADMIN") return [...OF_A_MERCHANT, ...OF_THE_ISSUER];
  return by === "ISSUER_AGENT" ? OF_A_MERCHANT : ["MERCHANT_STAFF"];
}

/** What a user of this role may become: no merchant's user becomes one of the issuer's, nor the other way round. */
export function instead(by: Role | undefined, of: Role): readonly Role[] {
  const side = [OF_A_MERCHANT, OF_THE_ISSUER].find((roles) => roles.includes(of)) ?? [];
  const roles = given(by);
  return roles.includes(of) ? roles.filter((role) => side.includes(role)) : [of];
}
