import type { MayastorVolume } from '../api/mayastor.js'
import type { LeaseStore } from '../clients/leases.js'
import type { MayastorClient } from '../clients/mayastor.js'
import type { Clock } from '../clock.js'
import { readJournals } from './act.js'
import type { Journal } from './journal.js'
import type { View } from './preconditions.js'

/** One reading of everything, shared by all volumes at rest. Never what a step rests on. */
export interface Listing {
  readonly volumes: ReadonlyMap<string, MayastorVolume>
  readonly view: Omit<View, 'volume'>
  /** By volume; empty where there is no access to Leases. */
  readonly journals: ReadonlyMap<string, Journal>
}

/** Age at which a listing is read anew; Mayastor's own state is as old. */
const MAX_AGE_MS = 30_000

/** The newest listing, read later than `since` (milliseconds since the epoch). */
export type SharedListing = (since: number) => Promise<Listing>

/**
 * Listings at most 30 s old; callers that come while one is read share it. `since` keeps a status from going back in
 * time: what a step has reported must not be overwritten by what was read before it.
 */
export function sharedListing(deps: {
  readonly mayastor: MayastorClient
  readonly leases: LeaseStore | undefined
  readonly clock: Clock
}): SharedListing {
  let latest: { readonly at: number; readonly listing: Promise<Listing> } | undefined
  return (since) => {
    const now = deps.clock.now()
    if (latest === undefined || now - latest.at > MAX_AGE_MS || latest.at <= since) {
      const reading = { at: now, listing: read(deps) }
      latest = reading
      reading.listing.catch(() => {
        if (latest === reading) latest = undefined
      })
    }
    return latest.listing
  }
}

async function read({ mayastor, leases }: Parameters<typeof sharedListing>[0]): Promise<Listing> {
  const [volumes, pools, nodes, capabilities, journals] = await Promise.all([
    mayastor.volumes(),
    mayastor.pools(),
    mayastor.nodes(),
    mayastor.capabilities(),
    leases === undefined ? [] : readJournals(leases),
  ])
  return {
    volumes: new Map(volumes.map((volume) => [volume.uuid, volume])),
    view: {
      pools: new Map(pools.map((pool) => [pool.id, pool])),
      nodes: new Map(nodes.map((node) => [node.id, node])),
      capabilities,
    },
    journals: new Map(journals.map((journal) => [journal.volume, journal])),
  }
}
