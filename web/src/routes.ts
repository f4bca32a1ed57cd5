// Which screens there are, for whom. Each role has a list of its own, and loads no other's screens.
import type { Text } from "./lib/language.svelte";
import type { Route } from "./lib/router.svelte";
import type { Role } from "./lib/session.svelte";

export interface Area {
  /** The links of the menu, the first of which is where one arrives. */
  readonly menu: readonly { readonly href: string; readonly label: Text }[];
  readonly routes: readonly Route[];
}

/** What everyone who has signed in may open. */
export const COMMON: readonly Route[] = [
  { path: "/account", screen: () => import("./account/Account.svelte") },
  { path: "/account/password", screen: () => import("./account/ChangePassword.svelte") },
];

export const AREAS: Readonly<Record<Role, () => Promise<{ default: Area }>>> = {
  MERCHANT_MANAGER: () => import("./till/signatory"),
  MERCHANT_STAFF: () => import("./till/area"),
  HOLDER: () => import("./customer/area"),
  ISSUER_ADMIN: () => import("./issuer/area"),
  ISSUER_AGENT: () => import("./issuer/area"),
};
