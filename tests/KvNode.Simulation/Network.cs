using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Transport;

namespace KvNode.Simulation;

internal enum PacketKind : byte
{
    Message,
    Forward,
    ForwardRefused,
}

/// <summary>Something on its way between two nodes.</summary>
internal sealed class Packet
{
    public required PacketKind Kind { get; init; }

    public required int From { get; init; }

    public Message Message { get; init; }

    public ulong Term { get; init; }

    public ulong Incarnation { get; init; }

    public ulong Sequence { get; init; }

    public byte[] Payload { get; init; } = [];
}

/// <summary>
/// The ways between all nodes. Messages get lost, doubled, late and out of order at any time. Forwarded batches stay in order
/// for as long as the way between two nodes stays the same, and are lost only with it.
/// </summary>
internal sealed class Network(Simulation simulation)
{
    public const int NodesMax = 16;

    private readonly Way[,] _ways = new Way[NodesMax, NodesMax];

    private struct Way
    {
        /// <summary>Nothing gets through from the one to the other.</summary>
        public bool Blocked;

        /// <summary>There is a connection of the two.</summary>
        public bool Connected;

        /// <summary>Something that must stay in order was lost: the connection has to end.</summary>
        public bool Holed;

        public bool Connecting;

        /// <summary>When the last thing that stays in order arrives.</summary>
        public long LastArrival;

        /// <summary>Which of the two's connections this is.</summary>
        public int Connection;
    }

    public bool IsConnected(int from, int to) => _ways[from, to].Connected;

    public bool IsBlocked(int from, int to) => _ways[from, to].Blocked;

    public void Block(int from, int to) => _ways[from, to].Blocked = true;

    /// <summary>Ends all partitions. Connections that lost something are made anew.</summary>
    public void HealAll(int nodes)
    {
        for (var one = 0; one < nodes; one++)
        {
            for (var other = 0; other < nodes; other++)
            {
                _ways[one, other].Blocked = false;
            }
        }

        for (var one = 0; one < nodes; one++)
        {
            for (var other = one + 1; other < nodes; other++)
            {
                if (_ways[one, other].Holed || _ways[other, one].Holed)
                {
                    Break(one, other);
                }

                Connect(one, other);
            }
        }
    }

    /// <summary>The connection of two nodes ends; both notice, and soon there is another one.</summary>
    public void Break(int one, int other)
    {
        if (!_ways[one, other].Connected)
        {
            return;
        }

        foreach (var (from, to) in ((int, int)[])[(one, other), (other, one)])
        {
            ref var way = ref _ways[from, to];
            way.Connected = false;
            way.Holed = false;
            way.Connection++;
            simulation.Nodes[from].Sink?.OnUnreachable((ulong)to + 1);
            simulation.Wake(from);
        }

        Connect(one, other);
    }

    /// <summary>A node is gone: its connections end.</summary>
    public void BreakAll(int node)
    {
        for (var other = 0; other < simulation.Nodes.Count; other++)
        {
            if (other != node)
            {
                Break(node, other);
            }
        }
    }

    /// <summary>Tries to connect two nodes, if one of them wants that.</summary>
    public void Connect(int one, int other)
    {
        if (one == other || _ways[one, other].Connected || _ways[one, other].Connecting)
        {
            return;
        }

        _ways[one, other].Connecting = _ways[other, one].Connecting = true;
        simulation.Plan(simulation.Dice.Between(100_000L, 8 * Swarm.Millisecond), EventType.Connect, one, life: -1, other);
    }

    public void OnConnect(int one, int other)
    {
        _ways[one, other].Connecting = _ways[other, one].Connecting = false;
        var (left, right) = (simulation.Nodes[one], simulation.Nodes[other]);
        if (!left.IsRunning || !right.IsRunning || (!left.WantsPeer(other) && !right.WantsPeer(one)))
        {
            return;
        }

        if (IsBlocked(one, other) || IsBlocked(other, one))
        {
            // The next try after the partition's end.
            return;
        }

        _ways[one, other].Connected = _ways[other, one].Connected = true;
        left.Sink!.OnConnected((ulong)other + 1, "");
        right.Sink!.OnConnected((ulong)one + 1, "");
        simulation.Wake(one);
        simulation.Wake(other);
    }

    public void Send(int from, in Message message)
    {
        var to = (int)message.To - 1;
        if (to < 0 || to >= simulation.Nodes.Count || !simulation.Nodes[to].IsRunning || _ways[from, to].Blocked)
        {
            return;
        }

        var swarm = simulation.Swarm;
        var dice = simulation.Dice;
        if (simulation.IsStormy && swarm.Has(Faults.Loss) && dice.Chance(swarm.Loss))
        {
            return;
        }

        var packet = new Packet { Kind = PacketKind.Message, From = from, Message = Copy(message) };
        var life = simulation.Nodes[to].Life;
        simulation.Plan(Delay(), EventType.Deliver, to, life, 0, packet);
        if (simulation.IsStormy && swarm.Has(Faults.Duplicates) && dice.Chance(swarm.Duplicates))
        {
            simulation.Plan(Delay(), EventType.Deliver, to, life, 0, packet);
        }
    }

    /// <returns>False: there is no connection.</returns>
    public bool SendInOrder(int to, Packet packet)
    {
        simulation.OnSendingInOrder(packet, to);
        ref var way = ref _ways[packet.From, to];
        if (!way.Connected)
        {
            return false;
        }

        if (way.Blocked)
        {
            way.Holed = true;
            return true;
        }

        var arrival = Math.Max(simulation.Now + Delay(), way.LastArrival + 1);
        way.LastArrival = arrival;
        simulation.Plan(arrival - simulation.Now, EventType.Deliver, to, simulation.Nodes[to].Life, way.Connection, packet);
        return true;
    }

    /// <summary>Whether what was sent in order arrives: with its connection it may be lost.</summary>
    public bool StillArrives(Packet packet, int to, int connection) =>
        packet.Kind == PacketKind.Message
        || _ways[packet.From, to].Connection == connection
        || simulation.Dice.Next(2) == 0;

    private long Delay()
    {
        var swarm = simulation.Swarm;
        if (simulation.IsStormy && swarm.LongDelays > 0 && simulation.Dice.Chance(swarm.LongDelays))
        {
            return simulation.Dice.Between(swarm.DelayMax, 3 * swarm.ElectionTimeout);
        }

        return simulation.Dice.Between(swarm.DelayMin, simulation.IsStormy ? swarm.DelayMax : swarm.DelayMin + Swarm.Millisecond);
    }

    /// <summary>The bytes are the core's only until its next call.</summary>
    private static Message Copy(in Message message)
    {
        if (message.Entries.IsEmpty)
        {
            return message;
        }

        var entries = message.Entries.ToArray();
        var bytes = 0;
        foreach (ref readonly var entry in entries.AsSpan())
        {
            bytes += entry.Payload.Length;
        }

        var all = new byte[bytes];
        var at = 0;
        foreach (ref var entry in entries.AsSpan())
        {
            var length = entry.Payload.Length;
            entry.Payload.CopyTo(all.AsMemory(at));
            entry = entry with { Payload = all.AsMemory(at, length) };
            at += length;
        }

        return message with { Entries = entries };
    }
}

/// <summary>One node's end of the network, for one of its lives.</summary>
internal sealed class NodeTransport(Simulation simulation, SimulationNode node) : IPeerTransport
{
    public void Start(IPeerSink sink)
    {
    }

    public void SetCluster(ulong clusterId)
    {
    }

    public void SetPeers(IReadOnlyDictionary<ulong, string> addressById) => node.SetPeers(addressById);

    public void Send(in Message message)
    {
        simulation.OnSending(node, message);
        simulation.Network.Send(node.Number, message);
    }

    public bool SendForward(ulong to, ulong origin, ulong incarnation, ulong sequence, ReadOnlySpan<byte> payload) =>
        simulation.Network.SendInOrder((int)to - 1, new Packet
        {
            Kind = PacketKind.Forward,
            From = node.Number,
            Term = origin,
            Incarnation = incarnation,
            Sequence = sequence,
            Payload = payload.ToArray(),
        });

    public void SendForwardRefused(ulong to, ulong incarnation, ulong sequence, byte reason, string? text) =>
        _ = simulation.Network.SendInOrder((int)to - 1, new Packet
        {
            Kind = PacketKind.ForwardRefused,
            From = node.Number,
            Incarnation = incarnation,
            Sequence = sequence,
        });

    public void Flush()
    {
    }

    public bool IsConnected(ulong peer) => simulation.Network.IsConnected(node.Number, (int)peer - 1);

    public long QueuedBytes(ulong peer) => 0;

    public ValueTask<ControlReply> AskAsync(
        string address, ControlRequest request, CancellationToken cancellation, ulong expected = 0) =>
        throw new TransportException("not in a simulation");

    public ValueTask<SnapshotVerdict> SendSnapshotAsync(
        ulong peer, SnapshotOffer offer, ISnapshotSource source, CancellationToken cancellation) =>
        throw new TransportException("not in a simulation");

    public void Dispose()
    {
    }
}

/// <summary>What arrives at a node goes into its mailbox, as in a server.</summary>
internal sealed class NodeSink(Mailbox mailbox) : MailboxSink(mailbox)
{
    public void Deliver(Packet packet)
    {
        var from = (ulong)packet.From + 1;
        switch (packet.Kind)
        {
            case PacketKind.Message:
                OnMessage(packet.Message, null);
                break;
            case PacketKind.Forward:
                OnForward(from, packet.Term, packet.Incarnation, packet.Sequence, packet.Payload, null);
                break;
            default:
                OnForwardRefused(from, packet.Incarnation, packet.Sequence, 1, "refused");
                break;
        }
    }
}
