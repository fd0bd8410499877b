import type { FastifyPluginAsync } from 'fastify'
import { parentUid } from '../../src/hook-call.js'
import type { TopologyRoutes } from '../../src/server.js'
import { toWire } from '../../src/wire.js'

/** Observes a volume and takes at most one step of its migration. */
export const topologySync: FastifyPluginAsync<TopologyRoutes> = async (app, { calls, flight, topology }) => {
  app.post('/hooks/replica-topology/sync', async (request, reply) => {
    const uid = parentUid(request.body)
    const answer = await calls.run(reply, (signal) =>
      flight.run(uid, () => topology.sync(request.body, signal, request.log)),
    )
    return reply.type('application/json').send(toWire(answer))
  })
}
