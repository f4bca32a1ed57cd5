import type { StaffFragment } from "../generated/operations";
import type { Text } from "../lib/language.svelte";

export type Right = StaffFragment["grants"][number]["rights"][number];

export const RIGHTS: Readonly<Record<Right, Text>> = {
  COLLECT: ["Encaisser", "Collect"],
  VALIDATE: ["Valider", "Validate"],
  EXPORT: ["Exporter", "Export"],
};

export const RIGHT_NAMES = Object.keys(RIGHTS) as Right[];
