using KvNode.Raft.Core;
using KvNode.Testing;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>
/// Random schedules over a few cores: messages lost, doubled, delayed and reordered without bound, writes and crashes at
/// any point, changes of membership, transfers, snapshots. After every step the facts of the paper must hold; in the end,
/// with the network whole, everybody must agree.
/// </summary>
public sealed class ChaosTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SafetyHoldsInRandomSchedulesAndTheClusterRecovers(bool withLeases) =>
        Seeds.Run(nameof(SafetyHoldsInRandomSchedulesAndTheClusterRecovers), random =>
        {
            var seen = new ChaosCounts();
            for (var run = 0; run < Runs; run++)
            {
                var seed = random.Next();
                try
                {
                    new Chaos(seed, withLeases, seen).Run(steps: 3000);
                }
                catch (Exception failure)
                {
                    throw new SeededFailureException($"schedule {seed}: {failure.Message}", failure);
                }
            }

            // A schedule in which nothing happens proves nothing.
            Assert.True(seen.Commits > 3 * Runs, seen.ToString());
            Assert.True(seen.Leaders > Runs, seen.ToString());
            Assert.True(seen.Reads > 0 && seen.Changes > 0 && seen.Snapshots > 0, seen.ToString());
            Assert.True(seen.LeaseReads > 0 || !withLeases, seen.ToString());
        });

    private static int Runs => int.TryParse(Environment.GetEnvironmentVariable("KVNODE_CHAOS_RUNS"), out var runs) ? runs : 40;
}

/// <summary>What happened in some schedules.</summary>
internal sealed record ChaosCounts
{
    public int Commits { get; set; }

    public int Leaders { get; set; }

    public int Changes { get; set; }

    public int Snapshots { get; set; }

    public int Reads { get; set; }

    public int LeaseReads { get; set; }
}

/// <summary>One random schedule and its oracle.</summary>
internal sealed class Chaos
{
    private const int NanosecondsPerTick = 1000;

    private readonly Random _random;
    private readonly bool _withLeases;
    private readonly ChaosCounts _counts;
    private readonly TinyNode[] _nodes;
    private readonly List<Message> _wire = [];
    private readonly List<(ulong From, ulong To, ulong Term, Applied State)> _snapshots = [];
    private readonly Dictionary<ulong, EntryId> _committed = [];

    /// <summary>The highest index known to be committed, and a term in which it was so.</summary>
    private readonly SortedDictionary<ulong, ulong> _commitMaxByTerm = [];
    private readonly Dictionary<ulong, ulong> _digests = [];
    private readonly Dictionary<ulong, ulong> _leaders = [];
    private readonly Dictionary<(ulong Node, ulong Context), ulong> _reads = [];
    private readonly HashSet<(ulong From, ulong To)> _cuts = [];
    private readonly int _loss;
    private ulong _commitMax;

    /// <summary>Checks follow every single step, so that whoever is seen committing first is the leader that did it.</summary>
    private bool _isStepwise = true;
    private ulong _contexts;
    private long _now;

    public Chaos(int seed, bool withLeases, ChaosCounts counts)
    {
        _counts = counts;
        _random = new Random(seed);
        _withLeases = withLeases;
        var voters = _random.Next(1, 6);
        var membership = TinyCluster.VotersTo(voters);
        _loss = _random.Next(0, 20);
        _nodes = new TinyNode[voters + 2];
        for (var i = 0; i < _nodes.Length; i++)
        {
            var options = Options((ulong)i + 1, seed);
            _nodes[i] = i < voters
                ? new TinyNode(options, membership, new EntryId(1, 1))
                : new TinyNode(options, Membership.Empty);
        }
    }

    public void Run(int steps)
    {
        for (var step = 0; step < steps; step++)
        {
            Act();
            Check();
        }

        _counts.Commits += _committed.Count;
        _counts.Leaders += _leaders.Count;
        Recover();
    }

    private CoreOptions Options(ulong id, int seed) => new()
    {
        NodeId = id,
        ElectionTicks = 10,
        HeartbeatTicks = 2,
        MessageBytesMax = 200,
        InflightMessagesMax = _random.Next(1, 8),
        InflightBytesMax = _random.Next(100, 1000),
        UncommittedBytesMax = 2000,
        ApplyBytesMax = _random.Next(40, 400),
        LeaseNanoseconds = _withLeases ? 9 * NanosecondsPerTick : 0,
        Seed = (ulong)seed + id,
    };

    private void Act()
    {
        var node = _nodes[_random.Next(_nodes.Length)];
        switch (_random.Next(100))
        {
            case < 50:
                Deliver();
                break;
            case < 64:
                node.PersistOne(_wire);
                break;
            case < 74:
                node.ApplyOne(_wire);
                break;
            case < 82:
                Tick(node);
                break;
            case < 92:
                Use(node);
                break;
            case < 95:
                CarrySnapshot();
                break;
            default:
                Disturb(node);
                break;
        }
    }

    private void Tick(TinyNode node)
    {
        // Leases rest on clocks of about equal pace.
        if (_withLeases)
        {
            _now += NanosecondsPerTick;
            foreach (var each in _nodes)
            {
                each.Core.SetClock(_now);
                each.Core.Tick();
                Turn(each);
            }
        }
        else
        {
            node.Core.Tick();
            Turn(node);
        }
    }

    private void Deliver()
    {
        if (_wire.Count == 0)
        {
            return;
        }

        // Mostly in order, or nothing would ever come about.
        var at = _random.Next(4) == 0 ? _random.Next(_wire.Count) : 0;
        var message = _wire[at];
        if (_random.Next(20) > 0)
        {
            _wire.RemoveAt(at);
        }

        if (_random.Next(100) >= _loss && !_cuts.Contains((message.From, message.To)))
        {
            var to = _nodes[message.To - 1];
            to.Core.Step(message);
            Turn(to);
        }
    }

    private void Use(TinyNode node)
    {
        switch (_random.Next(8))
        {
            case < 4:
                _ = node.Core.Propose(EntryKind.Normal, new byte[_random.Next(60)], out _);
                break;
            case < 6:
                Read(node);
                break;
            case 6:
                var result = node.Core.ProposeChange(RandomChange(), out _, out _);
                _counts.Changes += result == ProposeResult.Accepted ? 1 : 0;
                break;
            default:
                node.Core.TransferLeader((ulong)_random.Next(1, _nodes.Length + 1));
                break;
        }

        Turn(node);
    }

    private void Read(TinyNode node)
    {
        if (_withLeases && node.Core.TryLeaseRead(out var index))
        {
            Invariant.Check(index >= _commitMax);
            _counts.LeaseReads++;
        }

        var context = _random.Next(5) == 0 ? 7 : ++_contexts + 1000;
        var isAsked = node.Core.ReadIndex(context);
        if (isAsked && context != 7)
        {
            _reads[(node.Options.NodeId, context)] = _commitMax;
        }
    }

    private ConfigurationChange RandomChange()
    {
        if (_random.Next(6) == 0)
        {
            return ConfigurationChange.LeaveJoint;
        }

        var changes = new NodeChange[_random.Next(1, 4)];
        for (var i = 0; i < changes.Length; i++)
        {
            changes[i] = new NodeChange(
                (MembershipChangeKind)_random.Next(5), (ulong)_random.Next(1, _nodes.Length + 1), $"a{_random.Next(3)}");
        }

        return new ConfigurationChange((ChangeTransition)_random.Next(3), changes);
    }

    private void Disturb(TinyNode node)
    {
        var other = (ulong)_random.Next(1, _nodes.Length + 1);
        switch (_random.Next(12))
        {
            case 0:
                node.Crash(_random.Next(node.PersistsUnderWay + 1));
                if (_withLeases)
                {
                    node.Core.SetClock(_now);
                }

                // No connection outlives a start of a node.
                foreach (var peer in _nodes)
                {
                    peer.Core.ReportConnected(node.Options.NodeId);
                }

                break;
            case 1:
                node.Core.Campaign();
                break;
            case 2:
                node.Core.ForgetLeader();
                break;
            case 3 when _random.Next(4) == 0:
                node.Core.Resign();
                break;
            case 4:
                node.Core.ReportUnreachable(other);
                break;
            case 11:
                node.Core.ReportConnected(other);
                break;
            case 5:
                _ = _cuts.Add((node.Options.NodeId, other));
                break;
            case 6 or 7:
                _cuts.Clear();
                break;
            case 8 or 9:
                node.Compact((ulong)_random.Next(4));
                break;
            case 10:
                node.Core.Log.Evict(ulong.MaxValue);
                break;
            default:
                break;
        }

        Turn(node);
    }

    private void Turn(TinyNode node)
    {
        node.Turn(_wire);
        if (_random.Next(2) == 0)
        {
            FetchRequest[] fetches = [.. node.Fetches];
            node.Fetches.Clear();
            foreach (var request in fetches)
            {
                node.Core.OnFetched(request.Peer, _random.Next(5) == 0 ? default : node.Fetch(request));
                node.Turn(_wire);
            }

        }

        foreach (var peer in node.SnapshotsWanted)
        {
            _snapshots.Add((node.Options.NodeId, peer, node.Core.Term, node.State));
        }

        node.SnapshotsWanted.Clear();
        foreach (var read in node.Reads)
        {
            Settle(node, read);
        }

        node.Reads.Clear();
    }

    private void Settle(TinyNode node, ReadState read)
    {
        if (_reads.Remove((node.Options.NodeId, read.Context), out var least) && read.Ok)
        {
            Invariant.Check(read.Index >= least);
            _counts.Reads++;
        }
    }

    private void CarrySnapshot()
    {
        if (_snapshots.Count == 0)
        {
            return;
        }

        var at = _random.Next(_snapshots.Count);
        var (from, to, term, state) = _snapshots[at];
        if (_random.Next(4) > 0)
        {
            _snapshots.RemoveAt(at);
        }

        var arrives = _random.Next(4) > 0;
        var receiver = _nodes[to - 1];
        if (arrives && _random.Next(2) == 0)
        {
            _wire.Add(new Message
            {
                Type = MessageType.InstallSnapshot,
                From = from,
                To = to,
                Term = term,
                Entry = state.Position,
            });
        }

        if (arrives)
        {
            _counts.Snapshots += receiver.Restore(from, term, state, _wire) ? 1 : 0;
            Turn(receiver);
        }

        var sender = _nodes[from - 1];
        sender.Core.ReportSnapshot(to, state.Position, arrives);
        Turn(sender);
    }

    private void Check()
    {
        foreach (var node in _nodes)
        {
            var core = node.Core;
            Invariant.Check(core.Applied <= core.Commit);
            Invariant.Check(core.Commit <= core.Log.Last.Index);
            Invariant.Check(core.Durable <= core.Log.Last.Index);
            if (core.Role == CoreRole.Leader)
            {
                CheckLeader(core);
            }

            for (var index = core.Commit; index > core.Log.BeforeFirst.Index; index--)
            {
                Invariant.Check(core.Log.TryTerm(index, out var term));
                var id = new EntryId(term, index);
                if (!_committed.TryAdd(index, id))
                {
                    Invariant.Check(_committed[index] == id);
                    break;
                }

                if (_isStepwise)
                {
                    CheckQuorumHolds(node, id);
                }
            }

            _commitMax = Math.Max(_commitMax, core.Commit);
            if (core.Commit > 0)
            {
                _commitMaxByTerm[core.Term] = Math.Max(core.Commit, _commitMaxByTerm.GetValueOrDefault(core.Term));
            }
            if (node.State.Position.Index > 0 && !_digests.TryAdd(node.State.Position.Index, node.State.Digest))
            {
                Invariant.Check(_digests[node.State.Position.Index] == node.State.Digest);
            }
        }
    }

    private void CheckLeader(RaftCore leader)
    {
        if (!_leaders.TryAdd(leader.Term, leader.NodeId))
        {
            Invariant.Check(_leaders[leader.Term] == leader.NodeId);
            return;
        }

        foreach (var (term, index) in _commitMaxByTerm)
        {
            if (term < leader.Term && index > leader.Log.BeforeFirst.Index)
            {
                Invariant.Check(leader.Log.Matches(_committed[index]));
            }
        }
    }

    private void CheckQuorumHolds(TinyNode node, EntryId id)
    {
        Invariant.Check(Holds(node.Core.Membership.Voters, id));
        Invariant.Check(Holds(node.Core.Membership.Outgoing, id));
    }

    private bool Holds(IReadOnlyList<ulong> voters, EntryId id)
    {
        var holders = 0;
        foreach (var voter in voters)
        {
            holders += _nodes[voter - 1].HasDurably(id) ? 1 : 0;
        }

        return voters.Count == 0 || holders > voters.Count / 2;
    }

    /// <summary>All faults end. A leader must come, and all members must get where it is.</summary>
    private void Recover()
    {
        _cuts.Clear();
        _isStepwise = false;
        for (var round = 0; round < 600; round++)
        {
            _now += NanosecondsPerTick;
            foreach (var node in _nodes)
            {
                if (_withLeases)
                {
                    node.Core.SetClock(_now);
                }

                node.Core.Tick();
                node.Settle(_wire);
                Help(node);
            }

            Exchange();
            Check();
            if (round > 100 && round % 10 == 0 && IsConverged())
            {
                return;
            }
        }

        Assert.Fail("the cluster does not recover: " + string.Join("; ", Array.ConvertAll(_nodes, static node =>
            $"{node.Core.NodeId} {node.Core.Role} t{node.Core.Term} l{node.Core.Leader} c{node.Core.Commit} "
            + $"a{node.Core.Applied} last {node.Core.Log.Last} {node.Core.Membership} "
            + string.Join(',', node.Core.Peers))));
    }

    private void Exchange()
    {
        for (var rounds = 0; rounds < 8 && _wire.Count > 0; rounds++)
        {
            Message[] batch = [.. _wire];
            _wire.Clear();
            foreach (var message in batch)
            {
                var to = _nodes[message.To - 1];
                to.Core.Step(message);
                to.Settle(_wire);
                Help(to);
            }
        }
    }

    private void Help(TinyNode node)
    {
        FetchRequest[] fetches = [.. node.Fetches];
        node.Fetches.Clear();
        foreach (var request in fetches)
        {
            node.Core.OnFetched(request.Peer, node.Fetch(request));
            node.Turn(_wire);
        }

        _snapshots.AddRange(node.SnapshotsWanted.ConvertAll(peer => (node.Options.NodeId, peer, node.Core.Term, node.State)));
        node.SnapshotsWanted.Clear();
        foreach (var (from, to, term, state) in _snapshots)
        {
            _ = _nodes[to - 1].Restore(from, term, state, _wire);
            _nodes[from - 1].Core.ReportSnapshot(to, state.Position, ok: true);
            _nodes[from - 1].Turn(_wire);
        }

        _snapshots.Clear();
    }

    private bool IsConverged()
    {
        var leader = Array.Find(_nodes, static node => node.Core.Role == CoreRole.Leader);
        if (leader is null || leader.Core.Applied != leader.Core.Log.Last.Index || leader.Core.Membership.AutoLeave)
        {
            return false;
        }

        foreach (var member in leader.Core.Membership.Addresses.Keys)
        {
            var core = _nodes[member - 1].Core;
            if (core.Applied != leader.Core.Applied || core.Leader != leader.Core.NodeId)
            {
                return false;
            }
        }

        return true;
    }
}
