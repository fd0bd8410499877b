/**
 * What the simulated Mayastor has to do as the real one does, each with a name that its tests carry. Sections and `rows`
 * (the first cell of a table's row) are those of the fact sheet about Mayastor, where there is one beside the checkout.
 */
export interface Rule {
  readonly says: string
  /** Rows of the sheet's tables in the section the name begins with that this rule stands for. */
  readonly rows?: readonly string[]
  /** Why there is nothing to simulate: it is about what a client should do, or is not there by default. */
  readonly none?: string
}

const refused = (status: number, what: string): string => `is refused with ${status} ${what}`

export const rules = {
  '2 staleness': { says: 'state is a cache of up to 30 s per node, spec is fresh' },
  '2 own results': { says: 'what the core did itself shows at once' },
  '2 rounds': { says: 'the reconciler looks every 10 s while there is work, else every 30 s, and at once when told' },
  '2 paging': { says: 'volumes are listed in pages; a delete moves the last one into the gap' },
  '2.1 errors': { says: 'an error has kind, message and details, and `message` names it' },
  '3 spelling': { says: 'objects are spelled as on the wire' },

  '4.1 unknown volume': { rows: ['unknown volume'], says: refused(404, 'NotFound') },
  '4.1 locked': {
    rows: ['volume (or its affinity group) locked by another operation (5 tries x 200 ms)'],
    says: `a volume that is held for more than a second ${refused(409, 'Conflict')}`,
  },
  '4.1 group locked': {
    says: 'a group that is held is a Conflict after the operation began, which stays on record until the next round',
  },
  '4.1 not persisted': {
    rows: ['an earlier operation not yet persisted'],
    says: `a volume whose last operation is not recorded ${refused(507, 'FailedPersist')}, until it is`,
  },
  '4.1 pending': {
    rows: ['volume Creating/Deleting'],
    says: `a volume that is being created or deleted ${refused(412, 'FailedPrecondition')}`,
  },
  '4.1 not ready': {
    rows: ['target in spec but nexus state not (yet) known, or vice versa'],
    says: `a target nothing is heard of ${refused(503, 'Unavailable')}`,
  },
  '4.1 n == num_replicas': { rows: ['`n == num_replicas`'], says: refused(412, 'ReplicaCountAchieved') },
  '4.1 n < 1': { rows: ['`n < 1`'], says: refused(412, 'LastReplica') },
  '4.1 by one': { rows: ['difference larger than 1'], says: refused(412, 'ReplicaChangeCount') },
  '4.1 increase not Online': {
    rows: ['increase and `state.status` is not Online'],
    says: `${refused(412, 'ReplicaIncrease')}; a decrease is not`,
  },
  '4.1 group below 2': {
    rows: ['affinity-group volume, `n < 2`'],
    says: `before 2.10 ${refused(412, 'RestrictedReplicaCount')}, later where it would share a node with another single one`,
  },
  '4.1 snapshots': { rows: ['increase with snapshots'], says: 'needs io-engines that can rebuild them, else 412' },
  '4.1 no pool': { rows: ['no suitable pool'], says: `${refused(507, 'ResourceExhausted')} and says 0/1 pools` },
  '4.1 rebuild limit': {
    rows: ['concurrent-rebuild limit reached'],
    says: `${refused(507, 'ResourceExhausted')} with another text, when the replica is there already`,
  },
  '4.1 pool drain': {
    rows: ['volume has a pool-drain move (unreleased)'],
    says: 'no increase; no decrease while the spare is being rebuilt',
  },
  '4.1 order': { says: 'the conditions are looked at in the order of the table' },

  '4.2 answer': { says: 'the answer is the volume as it is after the change' },
  '4.2 step 1': { says: 'the operation shows as spec.operation while it runs' },
  '4.2 step 2': { says: 'where creation fails the next best pool is silently tried; the list is made once' },
  '4.2 step 3': { says: 'a published volume is rebuilt from the moment of attaching, an unpublished one not at all' },
  '4.2 step 4': { says: 'the count changes last, and nobody waits for the rebuild' },
  '4.2 create fails': { rows: ['create fails on all candidates'], says: 'the count stays' },
  '4.2 phantom': { says: 'a replica that could not be created stays the volume’s in etcd until it is cleared' },
  '4.2 attach fails': {
    rows: ['attach fails (rebuild limit, nexus gone, ...)'],
    says: 'the count stays, the replica is the volume’s for a while and is removed as surplus',
  },
  '4.2 rebuild start fails': {
    rows: ['rebuild cannot start in io-engine'],
    says: 'the child is closed as faulted and its replica replaced, anywhere',
  },
  '4.2 core dies': {
    rows: ['core agent dies mid-way'],
    says: 'the operation counts as failed and is dropped, what was done stays and is cleared',
  },
  '4.2 REST timeout': { rows: ['REST timeout'], says: 'the caller gets 408, the core goes on' },
  '4.2 unrecorded end': { says: 'when the end cannot be recorded the answer is 507, and the change comes later' },
  '4.2 destroy fails': { says: 'a decrease whose destroy fails errors with the victim gone and the count as it was' },
  '4.2 destroy fails, cure': { says: 'repeated at once it only lowers the count' },
  '4.2 unpublished': { says: 'the replica added to an unpublished volume is the first to be removed again' },

  '5.1 node': {
    rows: ['node online, node not cordoned/draining'],
    says: 'the node is online, not cordoned, not draining',
  },
  '5.1 allowed nodes': { rows: ['explicit `allowed_nodes`'], says: 'the node is one of those the volume allows' },
  '5.1 one per node': {
    rows: ['**node does not already hold a replica of this volume**'],
    says: 'the node holds no replica of the volume',
  },
  '5.1 node labels': { rows: ['node labels of volume topology'], says: 'the node has the labels the volume wants' },
  '5.1 node spread': { says: 'since 2.10 the node has no value that is used already, for labels to be spread over' },
  '5.1 pool labels': {
    rows: ['pool labels (inclusion; empty value = key must exist)'],
    says: 'the pool has the labels; an empty value asks for the key only',
  },
  '5.1 pool status': {
    rows: ['pool status not Faulted/Unknown'],
    says: 'the pool is not Faulted, Unknown or Offline; a suspected one comes last',
  },
  '5.1 not imported': { says: 'a pool that is not imported takes nothing' },
  '5.1 pool cordon': {
    rows: ['pool **cordoned for `replicas`**'],
    says: 'since 2.10 the pool is not cordoned for replicas',
  },
  '5.1 capacity': { rows: ['pool capacity > volume size'], says: 'the pool is larger than the volume' },
  '5.1 thick': {
    rows: ['thick: free > size (and room for a full rebuild)'],
    says: 'for a thick volume more than its size is free',
  },
  '5.1 thin': {
    rows: ['thin: free > min(max allocated over replicas + 40 % of size, size), and > 16 MiB'],
    says: 'for a thin one what is allocated and 40 % of the size, at most the size, and more than 16 MiB',
  },
  '5.1 commitment': {
    rows: ['thin: (committed + size) < 250 % of capacity (pool commitment, configurable)'],
    says: 'a pool promises less than 250 % of its capacity to thin replicas',
  },
  '5.1 group': {
    rows: ["affinity group, single-replica members: avoid each other's nodes"],
    says: 'single replicas of a group keep apart; before 2.9 a second replica too',
  },
  '5.1 encryption': {
    rows: [
      'encryption equal (plain volume never on encrypted pool; encrypted volume on plain pool only with a soft setting)',
    ],
    says: 'since 2.9 pool and volume are both encrypted or neither',
  },
  '5.1 cluster size': { rows: ['cluster size equal'], says: 'since 2.10 pool and volume have the same cluster size' },
  '5.1 known state': { says: 'placement goes by what the core last heard of pools and nodes' },
  '5.2 sort': { says: 'fewest replicas, most free space and least promised weigh; a tie is a choice' },
  '5.2 status': { says: 'before 2.11 a degraded pool comes before an online one' },
  '5.3 fixed': { says: 'volumes stay on pools that came from a DiskPool and carry the labels they were created with' },
  '5.4 steering': {
    rows: ['Pool cordon (`replicas`) of all other eligible pools, remove right after the PUT'],
    says: 'with every other pool cordoned the replica lands on the one that is not, or nowhere',
  },
  '5.4 others': {
    rows: [
      'Node cordon of all other nodes',
      'Pool labels + volume topology',
      'Verify and undo: PUT N+1, read where it landed, if wrong PUT N at once',
      '`PUT /nodes/{n}/pools/{p}/replicas/{r}` + `PUT /nexuses/{x}/children/{uri}`',
    ],
    says: 'other ways to steer',
    none: 'a comparison for clients; what it rests on are the rules of 5.1, 5.3 and 6.1',
  },
  '5.5 calls': { rows: ['Calls', 'HTTP client note'], says: 'PUT and DELETE on /pools/{id}/cordon, both with a body' },
  '5.5 body': { rows: ['Body'], says: 'PUT sets the true bits and DELETE clears them, false leaves alone' },
  '5.5 reply': { rows: ['Reply'], says: 'the answer is 200 and the pool' },
  '5.5 nothing to set': { rows: ['Nothing to set (all bits already set)'], says: refused(422, 'AlreadyExists') },
  '5.5 nothing to clear': {
    rows: ['DELETE with nothing to clear, incl. uncordoned pool'],
    says: refused(422, 'AlreadyExists'),
  },
  '5.5 ownership': { rows: ['Ownership'], says: 'bits have no owner and no count' },
  '5.5 persistence': { rows: ['Persistence'], says: 'a cordon survives the core' },
  '5.5 preconditions': { rows: ['Preconditions'], says: 'a pool can be cordoned whatever its state' },
  '5.5 effect': {
    rows: ['Effect on reconcilers'],
    says: 'hot-spare and the out-of-space mover keep off, what is there is re-attached and rebuilt',
  },
  '5.5 kubectl': { rows: ['kubectl default'], says: 'what kubectl sends', none: 'a habit of another client' },
  '5.5 since': { says: 'pool cordons exist, and are described, since 2.10' },
  '5.5 labels': { says: 'pool labels are set and removed since 2.7.1, the created-by one never' },
  '5.6 node cordon': { says: 'labels, of which any keeps the node cordoned; 412 for a second PUT and an absent one' },

  '6.1 unhealthy': { rows: ['1'], says: 'first goes what etcd does not record as healthy' },
  '6.1 child': {
    rows: ['2'],
    says: 'then what the target does not use (2.9), and by state of the child; before, it is kept',
  },
  '6.1 progress': { says: 'since 2.9, of two that rebuild the one that is less far' },
  '6.1 topology': { rows: ['3'], says: 'then what violates the volume’s topology, since 2.8 (2.7.3)' },
  '6.1 node cordon': { rows: ['4'], says: 'then, since 2.9, what is on a cordoned or draining node' },
  '6.1 local': { rows: ['5'], says: 'then the remote before the local' },
  '6.1 group': { rows: ['6'], says: 'then where more of the group’s replicas share the pool' },
  '6.1 arbitrary': { rows: ['7'], says: 'then any, by choice' },
  '6.1 pool cordon': { says: 'a pool’s cordon is no criterion' },
  '6.2 unhealthy': { rows: ['unhealthy candidates'], says: 'go without further guard, one a call' },
  '6.2 healthy': {
    rows: ['healthy candidates'],
    says: 'go only while more than n are healthy and heard of; else the count is lowered and the rest trimmed later',
  },
  '6.2 last': {
    rows: ['last replica / last healthy'],
    says: 'surplus removal and the io-engine refuse the last healthy one',
  },
  '6.2 replica route': {
    rows: ['REST `DELETE` of a volume-owned replica (both the pool and the node route)'],
    says: refused(409, 'InUse'),
  },
  '6.2 nexus route': { rows: ['REST `DELETE` of a volume-owned nexus'], says: refused(409, 'InUse') },
  '6.3 child route': { says: 'a child of a volume’s nexus may be removed by hand: 204' },
  '6.3 trap': {
    rows: ['`PUT n-1` **immediately**'],
    says: 'its replica then cannot be destroyed (409 InUse): it is lost to the volume, the count stays',
  },
  '6.3 re-attach': {
    rows: ['hot-spare runs (10-30 s, needs `policy.self_heal`)'],
    says: 'hot-spare attaches it again, with a full rebuild, or makes another where it lacks space',
  },
  '6.3 then decrease': {
    rows: ['`PUT n-1` **while it is re-attached and still rebuilding**'],
    says: 'a decrease takes exactly that one',
  },
  '6.3 rebuilt': { rows: ['rebuild finishes first'], says: 'all are healthy and the order is arbitrary again' },
  '6.3 garbage': { rows: ['garbage collector'], says: 'only leftovers are collected, in every fifth round' },

  '6.4 Online': { rows: ['Online'], says: 'only the count of replicas is put right' },
  '6.4 Degraded': {
    rows: ['Degraded, Unknown'],
    says: 'faulted and missing children are replaced, the counts of replicas and children put right',
  },
  '6.4 Faulted': { rows: ['Faulted, Shutdown'], says: 'nothing is done' },
  '6.4 one at a time': { says: 'of several missing replicas one is made a round' },
  '6.4 self_heal': { says: 'all of it needs self_heal' },
  '6.4 out of space': {
    says: 'the largest thin replica of a full pool moves, also within its node, whatever self_heal says',
  },
  '6.4 missing children': {
    says: 'a target that was lost is built again from what is healthy, and the other replicas are replaced by new ones',
  },
  '6.4 too many children': { says: 'children too many leave the target first, their replicas a round later' },
  '6.4 unused': { says: 'a replica out of the target and not heard of is let go in every fifth round' },
  '6.4 left behind': { says: 'what is local to a target left behind on a lost node is not used, and is replaced' },

  '7 synced': {
    rows: ['Fully synced?'],
    says: 'only a synced child is Online; one that rebuilds is Degraded, with progress',
  },
  '7 window': { rows: ['Remaining window'], says: 'the healthy flag is recorded after the child turned Online' },
  '7 history': { rows: ['History'], says: '412 without target, 404 without records; gone with the nexus' },
  '7 new replica': { rows: ['New replica'], says: 'full rebuild of what is written; thin stays thin' },
  '7 partial': {
    rows: ['Partial rebuild'],
    says: 'a child that was synced and is back in time misses only what was written since',
  },
  '7 rebuild fails': { rows: ['Rebuilding child fails'], says: 'it is replaced at once, by a new uuid anywhere' },
  '7 limit': { rows: ['Concurrency limit'], says: 'rebuilds the core knows of are counted, also for hot-spare' },
  '7 target moves': {
    rows: ['Target moves (HA, node drain, republish)'],
    says: 'a new nexus from the healthy ones, after a loss from one; rebuilds begin at 0 again',
  },
  '7 unpublished': { rows: ['Unpublished'], says: 'no rebuild' },
  '7 pause': { rows: ['Pause/abort'], says: 'no call stops a rebuild; a decrease takes the replica away' },
  '7 source': {
    says: 'a rebuild copies from a local child if there is one, and starts again from another if it leaves',
  },

  '11 snapshots': {
    rows: ['Snapshots'],
    says: 'stay on the pool of the replica they were taken of, and need all replicas to be healthy',
  },
  '11 same node': { rows: ['Same-node tiering'], says: 'a count raised never uses another pool of the same node' },
  '11 few nodes': { rows: ['R = number of eligible nodes'], says: 'no node left is 507' },
  '11 groups': { rows: ['Affinity groups'], says: 'one change of places at a time in a group' },
  '11 equal': {
    rows: ['Encryption / cluster size'],
    says: 'a pool that does not match looks like no pool',
  },
  '11 resize': { rows: ['Resize running'], says: 'a resize holds the volume and shows as operation' },
  '11 node drain': { rows: ['Node drain'], says: 'moves targets, leaves replicas, and counts as cordoned' },
  '11 upgrade': { rows: ['Upgrade in progress'], says: 'nodes say their own version' },
  '11 thin': { rows: ['Thin volumes'], says: 'what snapshots left on the old pool is not copied along' },
  '11 target full': {
    rows: ['Target pool fills during rebuild'],
    says: 'the child fails for want of space, and its replica is made again elsewhere',
  },
  '11 N+1': { rows: ['N+1 phase'], says: 'the volume is Degraded until the rebuild is over' },
  '11 churn': {
    rows: ['Heavy scale churn'],
    says: 'io-engines restart',
    none: 'a defect under load that follows no rule; setNodeOnline makes a node restart',
  },
  '11 foreign': { rows: ['Foreign scalers'], says: 'people change counts too, over the same locks' },
  '11 pool drain': {
    rows: ['Pool drain (future)'],
    says: 'moves replicas with the count as it is, shows as `drain` in cordonDrain, can be taken back',
  },
  '11 workload': {
    says: 'create, destroy, publish, unpublish, snapshot, resize and properties are operations with steps',
  },
  '11 appearing': { says: 'nodes and pools may appear at any time, and are not cordoned' },

  '13.2 0': { rows: ['0'], says: 'everything there is to check can be read' },
  '13.2 1': { rows: ['1'], says: 'a pool cordon answers 200, or 422 where somebody else was first' },
  '13.2 2': { rows: ['2'], says: 'read again, only the wanted pool is open' },
  '13.2 3': { rows: ['3'], says: 'one new uuid on the wanted pool; repeated, 412' },
  '13.2 4': { rows: ['4'], says: 'uncordoned with 200, or 422 when it was' },
  '13.2 5': { rows: ['5'], says: 'a wrong one leaves first while it rebuilds' },
  '13.2 6': { rows: ['6'], says: 'progress, then synced, in readings 30 s apart' },
  '13.2 7': { rows: ['7'], says: 'N+1 synced replicas rest for as long as it takes' },
  '13.2 8': { rows: ['8'], says: 'a node cordon answers 200, or 412 for its own label' },
  '13.2 9': { rows: ['9'], says: 'the victim leaves, and no other' },
  '13.2 10': { rows: ['10'], says: 'the label goes with 200, or 412 when it is gone' },
  '13.2 11': { rows: ['11'], says: 'the set is as it was but for the victim, and the volume Online' },
  '13.2 races': { says: 'a replica that fails in between is removed instead, and what stays is healthy' },
  '13.4 two replicas': {
    rows: ['exactly two replicas (N+1 = 2) and the *new* one is local to the nexus, the victim remote'],
    says: 'before 2.9 the remote one leaves',
  },
  '13.4 topology': {
    rows: ["2.8 (2.7.3 inferred): victim is the only replica violating the volume's topology"],
    says: 'the one that violates the topology leaves',
  },
  '13.4 child': {
    rows: ['otherwise, only with explicit operator consent and `self_heal` true'],
    says: 'a child removed by hand comes back Degraded, and a decrease takes it',
  },
  '13.4 else': { rows: ['else'], says: 'otherwise', none: 'advice to refuse' },
  '13.5 fence': { rows: ['fence'], says: 'taking cordons back restores placement' },
  '13.5 grow': { rows: ['grow, new replica rebuilding'], says: 'a decrease takes what still rebuilds' },
  '13.5 grown': { rows: ['grown and synced'], says: 'a decrease takes what is on the cordoned node' },
  '13.5 shrink': { rows: ['shrink before call 9'], says: 'taking the label back changes nothing else' },
} as const satisfies Record<string, Rule>

export type RuleId = keyof typeof rules
