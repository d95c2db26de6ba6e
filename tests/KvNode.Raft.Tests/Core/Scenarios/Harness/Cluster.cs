using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>
/// Several nodes and the network between them: one queue, in order, without loss unless a scenario says otherwise.
/// </summary>
internal sealed class Cluster
{
    private readonly SortedDictionary<ulong, Node> _nodes = [];
    private readonly Queue<Message> _onTheWay = new();
    private readonly HashSet<(ulong From, ulong To)> _cut = [];
    private readonly List<Message> _held = [];
    private readonly Checker _checker = new() { Whole = true };

    /// <summary>Nodes 1 to n, all voters, all fresh.</summary>
    public Cluster(int voters = 3, Setup? setup = null)
    {
        var ids = Enumerable.Range(1, voters).Select(id => (ulong)id).ToArray();
        setup = (setup ?? new Setup()) with { Membership = Config.Of(ids) };
        foreach (var id in ids)
        {
            Start(id, setup);
        }
    }

    public Cluster(params (ulong Id, Setup Setup)[] nodes)
    {
        foreach (var (id, setup) in nodes)
        {
            Start(id, setup);
        }
    }

    public Node this[ulong id] => _nodes[id];

    public IEnumerable<Node> Nodes => _nodes.Values;

    /// <summary>Every message that was delivered, in order.</summary>
    public List<Message> Delivered { get; } = [];

    /// <summary>Messages for which this says true are lost.</summary>
    public Predicate<Message>? Loses { get; set; }

    /// <summary>Messages for which this says true wait until <see cref="ReleaseHeld"/>.</summary>
    public Predicate<Message>? Holds { get; set; }

    /// <summary>What is delivered instead of a message: nothing, it, or several.</summary>
    public Func<Message, Message[]>? Hook { get; set; }

    /// <summary>Snapshots are streamed and installed at once; else the scenario does it.</summary>
    public bool TransfersSnapshots { get; set; } = true;

    public Node Leader => Assert.Single(_nodes.Values, node => node.Core.Role == CoreRole.Leader);

    public Node Start(ulong id, Setup setup)
    {
        var node = new Node(id, setup, _checker);
        _nodes.Add(id, node);
        return node;
    }

    // The network.

    public void Cut(ulong a, ulong b)
    {
        _cut.Add((a, b));
        _cut.Add((b, a));
    }

    public void Isolate(ulong node)
    {
        foreach (var other in _nodes.Keys.Where(other => other != node))
        {
            Cut(node, other);
        }
    }

    /// <summary>All links work again, nothing is lost or held any more. What was held stays held until released.</summary>
    public void Heal()
    {
        _cut.Clear();
        Loses = null;
        Holds = null;
    }

    public void Lose(params MessageType[] types) => Loses = message => types.Contains(message.Type);

    /// <summary>Puts what was held on its way, oldest first.</summary>
    public void ReleaseHeld()
    {
        Holds = null;
        foreach (var message in _held)
        {
            _onTheWay.Enqueue(message);
        }

        _held.Clear();
        Settle();
    }

    // Time and inputs.

    /// <summary>Delivers everything, and what that causes, until it is quiet.</summary>
    public void Settle()
    {
        for (var delivered = 0; ; delivered++)
        {
            Assert.True(delivered < 100_000, "the network never gets quiet");
            Collect();
            if (!_onTheWay.TryDequeue(out var message))
            {
                return;
            }

            Carry(message);
        }
    }

    /// <summary>Time passes for these nodes (all when none is named); the network settles after each tick.</summary>
    public void Tick(int count, params ReadOnlySpan<ulong> nodes)
    {
        var ids = nodes.IsEmpty ? [.. _nodes.Keys] : nodes.ToArray();
        for (var i = 0; i < count; i++)
        {
            foreach (var id in ids)
            {
                _nodes[id].Tick();
            }

            Settle();
        }
    }

    public void Campaign(ulong node)
    {
        _nodes[node].Campaign();
        Settle();
    }

    /// <summary>Makes a node the leader: the others no longer count on another one, and it campaigns.</summary>
    public Node Elect(ulong node)
    {
        foreach (var other in _nodes.Values.Where(other => other.Id != node))
        {
            other.Do(core => core.ForgetLeader());
        }

        Campaign(node);
        Assert.Equal(CoreRole.Leader, _nodes[node].Core.Role);
        return _nodes[node];
    }

    public void Propose(ulong node, string payload = "x")
    {
        Assert.Equal(ProposeResult.Accepted, _nodes[node].Propose(payload));
        Settle();
    }

    public void ProposeChange(ulong node, ConfigurationChange change)
    {
        Assert.Equal(ProposeResult.Accepted, _nodes[node].ProposeChange(change));
        Settle();
    }

    // What is expected.

    public void AssertRoles(params (ulong Node, CoreRole Role)[] roles)
    {
        foreach (var (node, role) in roles)
        {
            Assert.Equal((node, role), (node, _nodes[node].Core.Role));
        }
    }

    /// <summary>These nodes (all when none is named) have the same log, commit and applied index.</summary>
    public void AssertEqualLogs(params ReadOnlySpan<ulong> nodes)
    {
        var ids = nodes.IsEmpty ? [.. _nodes.Keys] : nodes.ToArray();
        var first = _nodes[ids[0]];
        foreach (var node in ids.Select(id => _nodes[id]))
        {
            Assert.Equal(first.Core.Log.Last, node.Core.Log.Last);
            Assert.Equal(first.Core.Commit, node.Core.Commit);
            Assert.Equal(first.AppliedIndex, node.AppliedIndex);
            for (var index = Math.Max(first.Core.Log.BeforeFirst.Index, node.Core.Log.BeforeFirst.Index);
                index <= first.Last; index++)
            {
                Assert.True(first.Core.Log.TryTerm(index, out var expected));
                Assert.True(node.Core.Log.TryTerm(index, out var actual));
                Assert.Equal(expected, actual);
            }
        }
    }

    public void AssertSameTerm() => Assert.Single(_nodes.Values.Select(node => node.Core.Term).Distinct());

    private void Collect()
    {
        foreach (var node in _nodes.Values)
        {
            foreach (var message in node.Sent())
            {
                _onTheWay.Enqueue(message);
            }

            if (TransfersSnapshots)
            {
                OfferSnapshots(node);
            }
        }
    }

    private void Carry(Message message)
    {
        if (_cut.Contains((message.From, message.To)) || !_nodes.TryGetValue(message.To, out var target)
            || (Loses?.Invoke(message) ?? false))
        {
            return;
        }

        if (Holds?.Invoke(message) ?? false)
        {
            _held.Add(message);
            return;
        }

        foreach (var delivered in Hook?.Invoke(message) ?? [message])
        {
            Deliver(delivered, target);
        }
    }

    private void Deliver(Message message, Node target)
    {
        Delivered.Add(message);
        if (message.Type == MessageType.InstallSnapshot)
        {
            Install(message, target);
        }
        else
        {
            target.Receives(message);
        }
    }

    /// <summary>A whole transfer is one message here: what the state machine holds now.</summary>
    private void OfferSnapshots(Node node)
    {
        foreach (var peer in node.SnapshotsWanted)
        {
            _onTheWay.Enqueue(new Message
            {
                Type = MessageType.InstallSnapshot,
                From = node.Id,
                To = peer,
                Term = node.Core.Term,
                Entry = node.Disk.IdAt(node.AppliedIndex),
                Membership = node.Core.Membership.Encode(),
            });
        }

        node.SnapshotsWanted.Clear();
    }

    private void Install(in Message message, Node target)
    {
        var position = message.Entry;
        _ = target.ReceivesSnapshot(message.From, message.Term, position, Membership.Decode(message.Membership.Span));
        var to = message.To;
        _nodes[message.From].Do(core => core.ReportSnapshot(to, position, ok: true));
    }
}
