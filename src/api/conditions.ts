/** A condition type, for people. */
interface Documented {
  readonly meaning: string
  /** By reason: what it says, in one sentence. Empty: `meaning` says where its reasons are listed. */
  readonly reasons: Readonly<Record<string, string>>
}

/** Conditions in the status of our kinds, with all their reasons: what the reference is made of. */
export const CONDITIONS: Readonly<Record<'StoragePolicy' | 'ReplicaTopology', Readonly<Record<string, Documented>>>> = {
  StoragePolicy: {
    Ready: {
      meaning: 'True: the policy is acted on. False: it is not, and nothing of it is moved.',
      reasons: {
        Deciding: 'All is well.',
        InvalidSpec: 'A field is bad, though the API server let it through; the message names it.',
        Conflict: 'An older policy has the same storage class and owns its volumes.',
        NoPools: 'One of the selectors matches no DiskPool.',
        PoolsUnavailable: 'The cluster serves no DiskPools; looked for again within 20 minutes.',
        Deleting: 'The policy is being deleted and waits for its ReplicaTopologies.',
      },
    },
    MetricsAvailable: {
      meaning:
        'False: IOPS of too many volumes are unknown, and nothing new starts. Where any are unknown, the reason is the commonest of the decision reasons for that.',
      reasons: {
        AllKnown: 'IOPS are known of every volume that should have them.',
        NothingToMeasure: 'No volume is published and older than the sampling window.',
      },
    },
    Degraded: {
      meaning: 'Only there when True: the policy is acted on, but not all that it is about can be read.',
      reasons: {
        UnreadableObjects:
          'Persistent volumes or pools that cannot be read, are of other drivers, or match both selectors; the message names them.',
      },
    },
    Stalled: {
      meaning:
        'Only there when True: nothing new starts until a person has looked; the message has the command that resumes.',
      reasons: {
        RepeatedFailures: 'Three migrations in a row failed.',
        WrongRemoval: 'Mayastor removed another replica than the one asked for, and nothing explains it.',
      },
    },
    Progressing: {
      meaning: 'Only there when True.',
      reasons: {
        ChildrenMissing:
          'Some ReplicaTopologies are not there yet; where that lasts, another object holds the name of one.',
      },
    },
  },
  ReplicaTopology: {
    Observed: {
      meaning: 'Whether the status is what Mayastor says now.',
      reasons: {
        Observed: 'True: read from Mayastor.',
        VolumeGone: 'False: Mayastor knows no such volume.',
        MayastorUnavailable: 'Unknown: Mayastor does not answer; this is the last observation.',
        LeasesUnavailable: 'Unknown: the Leases of the operator cannot be read; this is the last observation.',
      },
    },
    BracketOpen: {
      meaning:
        'Only there when True: the cordons around a step of this volume have been there for more than two minutes.',
      reasons: {
        Unresolved: 'They stay until the outcome of the call they are there for is known.',
      },
    },
    Held: {
      meaning:
        'Only there when True: the migration waits without a slot, for a person or for a cause that has lasted an hour; the message says which, and has the command that releases it where it takes one. The reason is a migration reason, or a decision reason where such a one stands in its way.',
      reasons: {},
    },
    PoolsLeftCordoned: {
      meaning: 'Only there when True, and while the replica is being moved: pools that were cordoned for it stay so.',
      reasons: {
        CordonedMeanwhile: 'Somebody else has cordoned them meanwhile, and they are theirs; the message names them.',
      },
    },
    RemoteTarget: {
      meaning: 'Only there when True: I/O of the volume crosses the network.',
      reasons: {
        SingleReplicaMoved: 'The only replica was moved; the target follows at the next publish.',
      },
    },
  },
}
