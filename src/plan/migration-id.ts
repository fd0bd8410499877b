/**
 * Ids of migrations: the volume's uuid and an ordinal. Derived from the previous one, so that asking twice gives the
 * same id, and ordered, so that a late request for an old one is known as such.
 */

/** The id after `previous` of the same volume; the first one where there is none. */
export function nextMigrationId(volumeID: string, previous: string | undefined): string {
  return `${volumeID}-${(previous?.startsWith(`${volumeID}-`) ? ordinalOf(previous) : 0) + 1}`
}

/** The ordinal at the end of an id; 0 where it has none. */
export function ordinalOf(id: string): number {
  const value = Number(id.slice(id.lastIndexOf('-') + 1))
  return Number.isSafeInteger(value) && value > 0 ? value : 0
}
