import { session } from "../lib/session.svelte";
import type { Area } from "../routes";

const MENU: Area["menu"] = [
  { href: "/reimbursements", label: ["Remboursements", "Reimbursements"] },
  { href: "/payments", label: ["Opérations", "Payments"] },
  { href: "/vouchers", label: ["Bons", "Vouchers"] },
  { href: "/invoices", label: ["Factures", "Invoices"] },
  { href: "/statements", label: ["Relevés", "Statements"] },
  { href: "/holders", label: ["Titulaires", "Holders"] },
  { href: "/merchants", label: ["Commerçants", "Merchants"] },
  { href: "/users", label: ["Utilisateurs", "Users"] },
  { href: "/publications", label: ["Publications", "Publications"] },
  { href: "/reports", label: ["Rapports", "Reports"] },
];
const CLOCK: Area["menu"] = [{ href: "/clock", label: ["Horloge", "Clock"] }];

const area: Area = {
  /** A real issuer's clock is the world's: only a sandbox has a screen for it. */
  get menu() {
    return session.viewer?.issuer.sandbox ? [...MENU, ...CLOCK] : MENU;
  },
  routes: [
    { path: "/reimbursements", screen: () => import("./Reimbursements.svelte") },
    { path: "/reimbursements/files", screen: () => import("./TransferFiles.svelte") },
    { path: "/reimbursements/:id", screen: () => import("./Reimbursement.svelte") },
    { path: "/payments", screen: () => import("../till/Payments.svelte") },
    { path: "/payments/:id", screen: () => import("../till/Payment.svelte") },
    { path: "/vouchers", screen: () => import("./Vouchers.svelte") },
    { path: "/vouchers/:id", screen: () => import("./Voucher.svelte") },
    { path: "/verify", screen: () => import("../supplier/Verify.svelte") },
    { path: "/invoices", screen: () => import("../supplier/Invoices.svelte") },
    { path: "/invoices/new", screen: () => import("../supplier/NewInvoice.svelte") },
    { path: "/statements", screen: () => import("./Statements.svelte") },
    { path: "/holders", screen: () => import("./Holders.svelte") },
    { path: "/holders/new", screen: () => import("./NewHolder.svelte") },
    { path: "/holders/import", screen: () => import("./ImportHolders.svelte") },
    { path: "/holders/:id", screen: () => import("./Holder.svelte") },
    { path: "/merchants", screen: () => import("./Merchants.svelte") },
    { path: "/merchants/new", screen: () => import("./NewMerchant.svelte") },
    { path: "/merchants/:id", screen: () => import("./Merchant.svelte") },
    { path: "/users", screen: () => import("../users/Users.svelte") },
    { path: "/users/new", screen: () => import("../users/NewUser.svelte") },
    { path: "/users/:id", screen: () => import("../users/User.svelte") },
    { path: "/publications", screen: () => import("./Publications.svelte") },
    { path: "/reports", screen: () => import("./Reports.svelte") },
    { path: "/clock", screen: () => import("./Clock.svelte") },
  ],
};

export default area;
