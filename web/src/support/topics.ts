import type { Text } from "../lib/language.svelte";

export interface Topic {
  /** What stands in the address: `?about=…`. */
  readonly value: string;
  readonly label: Text;
  /** What the message should say. */
  readonly hint?: Text;
}

export const OTHER = "other";

/** What merchants ask their issuer for (P5). */
export const TOPICS: readonly Topic[] = [
  {
    value: "settlement",
    label: ["Recevoir mes bordereaux de règlement dématérialisés", "Receive my settlement slips electronically"],
  },
  {
    value: "remittance",
    label: ["Commander des bordereaux de remise", "Order remittance slips"],
    hint: ["Combien, et à quelle adresse les envoyer.", "How many, and which address to send them to."],
  },
  {
    value: "communication",
    label: ["Recevoir des outils de communication", "Receive communication material"],
    hint: ["Lesquels, combien, et à quelle adresse.", "Which, how many, and to which address."],
  },
  {
    value: "place",
    label: ["Ouvrir un point d’accueil", "Open a point of sale"],
    hint: ["Son nom et son adresse.", "Its name and its address."],
  },
  {
    value: "promotion",
    label: ["Publier une promotion", "Publish a promotion"],
    hint: ["Ce que vous offrez, où, et de quand à quand.", "What you offer, where, and from when to when."],
  },
  {
    value: "chorus",
    label: ["Factures d’un organisme public (Chorus Pro)", "Invoices of a public body (Chorus Pro)"],
    hint: ["Votre SIRET et, s’il y en a un, le code du service.", "Your SIRET and, if there is one, the service code."],
  },
  { value: OTHER, label: ["Autre chose", "Something else"] },
];
