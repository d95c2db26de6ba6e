using System.Text;
using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>
/// One real core with a simulated disk and state machine. Every input is followed by taking all that the core wants done;
/// disk and state machine do their part at once unless they are held.
/// </summary>
internal sealed class Node
{
    private readonly Setup _setup;
    private readonly Checker _checker;
    private readonly List<(ulong Sequence, Message Message)> _withheld = [];
    private readonly Queue<LogEntry> _toApply = new();
    private readonly SortedDictionary<ulong, Membership> _memberships = [];

    public Node(ulong id, Setup setup, Checker? checker = null)
    {
        Id = id;
        _setup = setup;
        _checker = checker ?? new Checker();
        Disk.Format(setup);
        _memberships[setup.Applied] = setup.Membership;
        AppliedIndex = setup.Applied;
        Core = Boot();
    }

    public ulong Id { get; }

    public RaftCore Core { get; private set; }

    public Disk Disk { get; } = new();

    /// <summary>The disk takes requests and does not complete them until told.</summary>
    public bool HoldDisk { get; set; }

    /// <summary>The state machine takes entries and does not apply them until told.</summary>
    public bool HoldApply { get; set; }

    /// <summary>Reads of older entries from disk are not answered until told.</summary>
    public bool HoldFetches { get; set; }

    /// <summary>Released for sending, oldest first.</summary>
    public List<Message> Outbox { get; } = [];

    /// <summary>Waiting for the disk.</summary>
    public IEnumerable<Message> Withheld => _withheld.Select(each => each.Message);

    /// <summary>Handed to the state machine and not applied yet.</summary>
    public IReadOnlyCollection<LogEntry> ToApply => _toApply;

    /// <summary>Applied in this life of the process and before, without what came by a snapshot.</summary>
    public List<LogEntry> Applied { get; } = [];

    public ulong AppliedIndex { get; private set; }

    public List<ReadState> Reads { get; } = [];

    public List<FetchRequest> Fetches { get; } = [];

    public List<ulong> SnapshotsWanted { get; } = [];

    /// <summary>The log as the core has it, on disk or not: terms from the first entry on.</summary>
    public ulong[] Terms
    {
        get
        {
            var terms = new List<ulong>();
            for (var index = Core.Log.BeforeFirst.Index + 1; index <= Core.Log.Last.Index; index++)
            {
                Assert.True(Core.Log.TryTerm(index, out var term));
                terms.Add(term);
            }

            return [.. terms];
        }
    }

    public ulong Last => Core.Log.Last.Index;

    private Membership MembershipAt(ulong index) => _memberships.Last(each => each.Key <= index).Value;

    public PeerView Peer(ulong id) => Assert.Single(Core.Peers, peer => peer.Id == id);

    // Inputs.

    public void Receives(Message message)
    {
        Core.Step(message with { To = Id });
        Pump();
    }

    public void Tick(int count = 1)
    {
        for (var i = 0; i < count; i++)
        {
            Core.Tick();
            Pump();
        }
    }

    public void Campaign() => Do(core => core.Campaign());

    public ProposeResult Propose(string payload = "x") => Propose(Encoding.ASCII.GetBytes(payload));

    public ProposeResult Propose(byte[] payload)
    {
        var result = Core.Propose(EntryKind.Normal, payload, out _);
        Pump();
        return result;
    }

    public ProposeResult ProposeChange(ConfigurationChange change)
    {
        var result = Core.ProposeChange(change, out _, out var refusal);
        Assert.Equal(result == ProposeResult.Refused, refusal is not null && result == ProposeResult.Refused);
        Pump();
        return result;
    }

    public bool Read(ulong context)
    {
        var asked = Core.ReadIndex(context);
        Pump();
        return asked;
    }

    public void Do(Action<RaftCore> input)
    {
        input(Core);
        Pump();
    }

    /// <summary>A snapshot at this position has been received whole from a leader.</summary>
    public bool ReceivesSnapshot(ulong leader, ulong term, EntryId position, Membership membership)
    {
        var needed = Core.OnSnapshotReceived(leader, term, position, membership);
        Pump();
        return needed;
    }

    /// <summary>The process ends without warning and starts again from its disk.</summary>
    public void Restart(ulong? applied = null)
    {
        Disk.Crash();
        _withheld.Clear();
        _toApply.Clear();
        Outbox.Clear();
        Fetches.Clear();
        SnapshotsWanted.Clear();
        if (applied is { } index)
        {
            AppliedIndex = index;
            Applied.RemoveAll(entry => entry.Id.Index > index);
        }

        Core = Boot();
        Pump();
    }

    // The disk's and the state machine's turn.

    /// <summary>Completes the oldest held writes.</summary>
    public void Write(int count = int.MaxValue)
    {
        while (count-- > 0 && Disk.Unwritten.Count > 0)
        {
            WriteOne();
        }

        Pump();
    }

    /// <summary>Applies the oldest held entries.</summary>
    public void Apply(int count = int.MaxValue)
    {
        while (count-- > 0 && _toApply.Count > 0)
        {
            ApplyOne();
        }

        Pump();
    }

    public void AnswerFetches()
    {
        AnswerAllFetches();
        Pump();
    }

    /// <summary>Drops applied entries from memory, and from disk too.</summary>
    public void Compact(ulong index)
    {
        Core.Log.Compact(index);
        Disk.CompactThrough(index);
        Pump();
    }

    // What came out.

    /// <summary>Everything sent since the last time, and forgets it.</summary>
    public Message[] Sent()
    {
        var sent = Outbox.ToArray();
        Outbox.Clear();
        return sent;
    }

    /// <summary>Those of one type sent since the last time; forgets the others too.</summary>
    public Message[] Sent(MessageType type) => [.. Sent().Where(message => message.Type == type)];

    public Message[] SentTo(ulong peer) => [.. Sent().Where(message => message.To == peer)];

    /// <summary>The one message of a type sent since the last time.</summary>
    public Message SentOne(MessageType type) => Assert.Single(Sent(type));

    // Ways into a role for a node without peers: the test speaks for them.

    public void BecomePreCandidate()
    {
        Campaign();
        Assert.Equal(CoreRole.PreCandidate, Core.Role);
    }

    public void BecomeCandidate()
    {
        BecomePreCandidate();
        Grant(MessageType.PreVoteResponse, CoreRole.Candidate);
        Assert.Equal(CoreRole.Candidate, Core.Role);
    }

    /// <summary>Leads, with its first entry on its own disk only.</summary>
    public void BecomeLeader()
    {
        Campaign();
        Grant(MessageType.PreVoteResponse, CoreRole.Candidate);
        Grant(MessageType.VoteResponse, CoreRole.Leader);
        Outbox.Clear();
    }

    /// <summary>Leads, and these peers hold all of its log.</summary>
    public void BecomeLeader(params ReadOnlySpan<ulong> caughtUp)
    {
        BecomeLeader();
        foreach (var peer in caughtUp)
        {
            Acks(peer, Last);
        }

        Outbox.Clear();
    }

    public void BecomeFollower(ulong leader, ulong term)
    {
        Receives(Say.Heartbeat(leader, term));
        Outbox.Clear();
    }

    public void Acks(ulong peer, ulong index) => Receives(Say.AppendOk(peer, Core.Term, index));

    private void Grant(MessageType type, CoreRole until)
    {
        foreach (var voter in Core.Membership.Voters.Concat(Core.Membership.Outgoing).Distinct().ToArray())
        {
            if (voter != Id && Core.Role < until)
            {
                Receives(type == MessageType.PreVoteResponse
                    ? Say.PreVoteReply(voter, Core.Term + 1)
                    : Say.VoteReply(voter, Core.Term));
            }
        }

        Assert.InRange(Core.Role, until, CoreRole.Leader);
    }

    private RaftCore Boot()
    {
        var state = new InitialState
        {
            HardState = Disk.HardState,
            Commit = Math.Max(Disk.Commit, AppliedIndex),
            Applied = Disk.IdAt(AppliedIndex),
            Membership = MembershipAt(AppliedIndex),
            BeforeFirst = Disk.BeforeFirst,
            Tail = Disk.Log.ToArray(),
        };
        var core = new RaftCore(_setup.Options(Id), state);
        _checker.Boot(this, core);
        return core;
    }

    private void Pump()
    {
        for (var turns = 0; ; turns++)
        {
            Assert.True(turns < 1000, "the core always wants more");
            var ready = Core.TakeReady();
            if (ready.IsEmpty)
            {
                break;
            }

            Take(ready);
            _checker.After(this);
            ServeWhatIsNotHeld();
        }

        _checker.After(this);
    }

    private void Take(Ready ready)
    {
        if (ready.Persist.Sequence != 0)
        {
            _checker.Persists(this, ready.Persist);
            Disk.Hand(ready.Persist);
        }

        foreach (var message in ready.Messages)
        {
            Send(message with { Entries = message.Entries.ToArray() });
        }

        foreach (var message in ready.MessagesAfterPersist)
        {
            Assert.True(message.Type is MessageType.Vote or MessageType.VoteResponse or MessageType.PreVoteResponse);
            _withheld.Add((ready.AfterPersistSequence, message));
        }

        foreach (var entry in ready.Committed.Span)
        {
            _checker.HandedToApply(this, entry);
            _toApply.Enqueue(entry);
        }

        Reads.AddRange(ready.Reads);
        Fetches.AddRange(ready.Fetches);
        SnapshotsWanted.AddRange(ready.SnapshotsWanted);
        ReleaseWithheld();
    }

    private void ServeWhatIsNotHeld()
    {
        while (!HoldDisk && Disk.Unwritten.Count > 0)
        {
            WriteOne();
        }

        while (!HoldApply && _toApply.Count > 0)
        {
            ApplyOne();
        }

        if (!HoldFetches)
        {
            AnswerAllFetches();
        }
    }

    private void AnswerAllFetches()
    {
        foreach (var fetch in Fetches)
        {
            Core.OnFetched(fetch.Peer, Disk.Range(fetch.FirstIndex, fetch.BytesMax));
        }

        Fetches.Clear();
    }

    private void WriteOne()
    {
        var written = Disk.WriteOne();
        Core.OnPersisted(written.Sequence);
        if (written.Snapshot is { } snapshot)
        {
            AppliedIndex = snapshot.Index;
            while (_toApply.TryPeek(out var entry) && entry.Id.Index <= snapshot.Index)
            {
                _toApply.Dequeue();
            }

            _memberships[snapshot.Index] = Core.Membership;
        }

        ReleaseWithheld();
    }

    private void ApplyOne()
    {
        var entry = _toApply.Dequeue();
        Assert.Equal(AppliedIndex + 1, entry.Id.Index);
        AppliedIndex = entry.Id.Index;
        Applied.Add(entry);
        Core.OnApplied(AppliedIndex);
        _memberships[AppliedIndex] = Core.Membership;
    }

    private void ReleaseWithheld()
    {
        foreach (var (_, message) in _withheld.Where(each => each.Sequence <= Disk.Sequence))
        {
            Send(message);
        }

        _withheld.RemoveAll(each => each.Sequence <= Disk.Sequence);
    }

    private void Send(in Message message)
    {
        _checker.Sends(this, message);
        Outbox.Add(message);
    }
}
