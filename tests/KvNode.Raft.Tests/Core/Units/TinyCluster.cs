using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>Nodes and a network that delivers at once, unless told to drop.</summary>
internal sealed class TinyCluster
{
    private readonly List<Message> _wire = [];

    public TinyCluster(int nodes, Func<CoreOptions, CoreOptions>? configure = null)
    {
        Membership = VotersTo(nodes);
        for (var id = 1; id <= nodes; id++)
        {
            Nodes.Add((ulong)id, new TinyNode(Options((ulong)id, configure), Membership));
        }
    }

    public Membership Membership { get; }

    public SortedDictionary<ulong, TinyNode> Nodes { get; } = [];

    /// <summary>True: the message is lost.</summary>
    public Predicate<Message> Drops { get; set; } = static _ => false;

    /// <summary>Every message that was sent, delivered or not.</summary>
    public List<Message> Sent { get; } = [];

    public RaftCore this[ulong id] => Nodes[id].Core;

    public static CoreOptions Options(ulong id, Func<CoreOptions, CoreOptions>? configure = null)
    {
        var options = new CoreOptions { NodeId = id, ElectionTicks = 10, HeartbeatTicks = 1, Seed = id };
        return configure is null ? options : configure(options);
    }

    public static Membership VotersTo(int nodes)
    {
        var voters = new (ulong, string)[nodes];
        for (var i = 0; i < nodes; i++)
        {
            voters[i] = ((ulong)i + 1, $"n{i + 1}");
        }

        return Membership.OfVoters(voters);
    }

    /// <summary>Adds a node that knows nothing.</summary>
    public TinyNode Join(ulong id)
    {
        var node = new TinyNode(Options(id), Membership.Empty);
        Nodes.Add(id, node);
        return node;
    }

    /// <summary>A cluster of which a node leads and everything is quiet.</summary>
    public static TinyCluster Led(int nodes, Func<CoreOptions, CoreOptions>? configure = null)
    {
        var cluster = new TinyCluster(nodes, configure);
        cluster[1].Campaign();
        cluster.Settle();
        Assert.Equal(CoreRole.Leader, cluster[1].Role);
        cluster.Sent.Clear();
        return cluster;
    }

    public void Settle()
    {
        for (var rounds = 0; ; rounds++)
        {
            Assert.True(rounds < 1000, "the cluster does not come to rest");
            foreach (var node in Nodes.Values)
            {
                node.Settle(_wire);
                Transfer(node);
            }

            if (_wire.Count == 0)
            {
                return;
            }

            Message[] batch = [.. _wire];
            _wire.Clear();
            foreach (var message in batch)
            {
                Sent.Add(message);
                if (!Drops(message) && Nodes.TryGetValue(message.To, out var node))
                {
                    node.Core.Step(message);
                }
            }
        }
    }

    public void Tick(int times = 1)
    {
        while (times-- > 0)
        {
            foreach (var node in Nodes.Values)
            {
                node.Core.Tick();
            }

            Settle();
        }
    }

    public void Propose(ulong leader, int bytes = 8) =>
        Assert.Equal(ProposeResult.Accepted, this[leader].Propose(EntryKind.Normal, new byte[bytes], out _));

    /// <summary>The driver's part: entries from disk and whole states.</summary>
    private void Transfer(TinyNode node)
    {
        FetchRequest[] fetches = [.. node.Fetches];
        node.Fetches.Clear();
        foreach (var request in fetches)
        {
            node.Core.OnFetched(request.Peer, node.Fetch(request));
            node.Turn(_wire);
        }

        foreach (var peer in node.SnapshotsWanted)
        {
            var ok = Nodes.ContainsKey(peer) && !Drops(new Message { Type = MessageType.InstallSnapshot, To = peer });
            if (ok)
            {
                _ = Nodes[peer].Restore(node.Options.NodeId, node.Core.Term, node.State, _wire);
            }

            node.Core.ReportSnapshot(peer, node.State.Position, ok);
        }

        node.SnapshotsWanted.Clear();
    }
}
