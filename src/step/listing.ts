import type { MayastorVolume } from '../api/mayastor.js'
import type { LeaseStore } from '../clients/leases.js'
import type { MayastorClient } from '../clients/mayastor.js'
import type { Clock } from '../clock.js'
import { readJournals, readSurroundings } from './act.js'
import type { Journal } from './journal.js'
import type { View } from './preconditions.js'

/** One reading of everything, shared by all volumes at rest. Never what a step rests on. */
export interface Listing {
  readonly volumes: ReadonlyMap<string, MayastorVolume>
  readonly view: Omit<View, 'volume'>
  /** By volume; empty where there is no access to Leases. */
  readonly journals: ReadonlyMap<string, Journal>
}

/** Oldest listing that is used; Mayastor's own state is as old. */
const MAX_AGE_MS = 30_000
/** Age at which one that is in use is read anew meanwhile, so that seldom anybody waits for it. */
const REFRESH_AGE_MS = 15_000

export interface ListingDeps {
  readonly mayastor: MayastorClient
  readonly leases: LeaseStore | undefined
  readonly clock: Clock
  /** Runs a reading that nobody may be waiting for. */
  readonly task: <T>(work: () => Promise<T>) => Promise<T>
}

interface Reading {
  /** Milliseconds since the epoch, before it began. */
  readonly at: number
  readonly listing: Promise<Listing>
}

/** The newest listing, read later than `since` (milliseconds since the epoch). */
export type SharedListing = (since: number) => Promise<Listing>

/**
 * Listings at most 30 s old; callers that come while one is read share it. `since` keeps a status from going back in
 * time: what a step has reported must not be overwritten by what was read before it.
 */
export function sharedListing(deps: ListingDeps): SharedListing {
  let latest: Reading | undefined
  let reading: Reading | undefined
  const begin = (): Reading => {
    const next = { at: deps.clock.now(), listing: deps.task(() => read(deps)) }
    reading = next
    const over = () => {
      if (reading === next) reading = undefined
    }
    next.listing.then(() => {
      latest = next
      over()
    }, over)
    return next
  }
  return (since) => {
    const now = deps.clock.now()
    const serves = (one: Reading | undefined): one is Reading =>
      one !== undefined && now - one.at <= MAX_AGE_MS && one.at > since
    if (!serves(latest)) return serves(reading) ? reading.listing : begin().listing
    const { listing, at } = latest
    if (now - at > REFRESH_AGE_MS && reading === undefined) begin()
    return listing
  }
}

async function read({ mayastor, leases }: ListingDeps): Promise<Listing> {
  const [volumes, view, { journals }] = await Promise.all([
    mayastor.volumes(),
    readSurroundings(mayastor),
    leases === undefined ? { journals: [] } : readJournals(leases),
  ])
  return {
    volumes: new Map(volumes.map((volume) => [volume.uuid, volume])),
    view,
    journals: new Map(journals.map((journal) => [journal.volume, journal])),
  }
}
