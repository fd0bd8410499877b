import type { Scenario, VolumeSpec } from './scenario.js'

/** One hot volume with two replicas on SATA, in a cluster that has room for it; what differs is given. */
export function scenario(
  changes: Partial<Omit<Scenario, 'volumes'>> & { readonly volume?: Partial<VolumeSpec> } = {},
): Scenario {
  const { volume = {}, ...others } = changes
  return {
    seed: 1,
    nodes: Array.from({ length: 5 }, () => ({ nvme: 200, sata: 400 })),
    zoned: false,
    volumes: [
      {
        gib: 8,
        thin: true,
        replicas: 2,
        on: 'sata',
        load: 'hot',
        first: 5,
        policy: 0,
        oddity: 'none',
        ...volume,
      },
    ],
    policies: [{ limit: 2, timeoutMinutes: 5, hardTimeout: false }],
    clusterLimit: 2,
    preservation: false,
    skews: [0],
    rebuildMiBPerSecond: 60,
    healthyDelay: 5,
    flaky: 0,
    echo: false,
    faults: [],
    ending: 'stay',
    tidyPeople: true,
    ...others,
  }
}
