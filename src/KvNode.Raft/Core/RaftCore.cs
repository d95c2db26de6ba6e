namespace KvNode.Raft.Core;

internal enum CoreRole : byte
{
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

internal enum ProposeResult
{
    Accepted,

    NotLeader,

    /// <summary>Leadership is being handed over, or will be: the leader has no vote any more.</summary>
    Transferring,

    /// <summary>Too much is uncommitted: try again when something has been applied.</summary>
    Full,

    /// <summary>A configuration change is not possible now; nothing was appended.</summary>
    Refused,
}

/// <summary>What the leader knows of one peer. For status and tests.</summary>
internal enum PeerState : byte
{
    Probe,
    Replicate,
    Snapshot,
}

internal readonly record struct PeerView(
    ulong Id, PeerState State, ulong Match, ulong Next, bool RecentlyActive, bool Paused, ulong PendingSnapshot, ulong EchoedRound);

/// <summary>
/// One node's Raft: everything that decides, nothing that acts. Inputs are method calls; what is to be done about them
/// comes out of <see cref="TakeReady"/>. Deterministic: no clock, input or output, task, lock or randomness but the seed's.
/// </summary>
/// <remarks>
/// One thread. A broken invariant throws; the driver stops the process. Inputs note what should be sent; the messages are
/// made in <see cref="TakeReady"/>, so that one Append covers everything a turn brought and its entries are slices of
/// the log as it then is.
/// </remarks>
internal sealed partial class RaftCore
{
    /// <summary>No cluster elects as often as this while a node is away. A term beyond it is no node's of ours, and taken over it
    /// would bring the end of all terms near.</summary>
    private const ulong TermsAheadMax = 1UL << 40;

    private readonly CoreOptions _options;
    private readonly Ready _ready = new();

    /// <summary>Messages of this turn, until <see cref="TakeReady"/>.</summary>
    private readonly List<Message> _messages = [];
    private readonly List<Message> _messagesAfterPersist = [];
    private SeededRandom _random;
    private long _clock = long.MinValue;

    /// <summary>As last told by <see cref="Ready.SoftStateChanged"/>.</summary>
    private (CoreRole Role, ulong Term, ulong Leader) _toldSoftState;

    /// <exception cref="ArgumentException">The options contradict each other.</exception>
    public RaftCore(CoreOptions options, InitialState state)
    {
        Check(options);
        _options = options;
        Log = new RaftLog(state.BeforeFirst, state.OlderTerms, state.Tail, state.Applied);
        Invariant.Check(state.Applied.Index >= Log.BeforeFirst.Index);
        Invariant.Check(Log.Matches(state.Applied));
        Invariant.Check(state.HardState.Term >= Log.Last.Term);
        Invariant.Check(state.Applied.Index + 1 >= Log.FirstInMemory);
        Term = state.HardState.Term;
        Vote = state.HardState.Vote;
#if PLANTED_BUGS
        Vote = Planted.Is(Bug.ForgetsVote) ? 0 : Vote;
#endif
        Membership = state.Membership;
        Applied = state.Applied.Index;
        Commit = Math.Min(Math.Max(state.Commit, Applied), Log.Last.Index);
        Durable = Log.Last.Index;
        _applying = Applied;
        _handedOut = Durable;
        Log.Releasable = Applied;
        _random = new SeededRandom(options.Seed ^ (options.NodeId * 0x9E3779B97F4A7C15));
        _readNumber = FirstReadNumber(options.Seed, state.HardState, Log.Last);
        // With leases a restart must not free this node's vote while a leader still counts on its silence.
        _ticksSinceLeader = Term > 0 ? 0 : options.ElectionTicks;
        _toldSoftState = (Role, Term, Leader);
        DrawTimeout();
    }

    public ulong NodeId => _options.NodeId;

    public CoreRole Role { get; private set; }

    public ulong Term { get; private set; }

    /// <summary>Who got this node's vote in the term; 0 for nobody.</summary>
    public ulong Vote { get; private set; }

    /// <summary>0 when unknown.</summary>
    public ulong Leader { get; private set; }

    public ulong Commit { get; private set; }

    /// <summary>As reported by <see cref="OnApplied"/>.</summary>
    public ulong Applied { get; private set; }

    /// <summary>Last index known to be on this node's disk.</summary>
    public ulong Durable { get; private set; }

    /// <summary>The configuration in force: as of what has been applied.</summary>
    public Membership Membership { get; private set; }

    public RaftLog Log { get; }

    /// <summary>Target of a pending leadership transfer; 0 for none.</summary>
    public ulong TransferTarget { get; private set; }

    /// <summary>Leader only, else empty; not the node itself. Allocates.</summary>
    public IReadOnlyList<PeerView> Peers => _peers.ConvertAll(static peer => peer.View());

    /// <summary>An entry of this term is committed: reads are possible.</summary>
    public bool HasCommittedInTerm => Log.TryTerm(Commit, out var term) && term == Term && Term > 0;

    private bool LeasesAreOn => _options.LeaseNanoseconds > 0;

    /// <summary>One unit of time has passed.</summary>
    public void Tick()
    {
        _ticksSinceLeader = Math.Min(_ticksSinceLeader + 1, _options.ElectionTicks);
        _abstention = Math.Max(_abstention - 1, 0);
        if (Role == CoreRole.Leader)
        {
            TickLeader();
        }
        else
        {
            TickElection();
            TickForwardedReads();
        }
    }

    /// <summary>The driver's monotonic clock in nanoseconds, for leases. Called before inputs; never goes back.</summary>
    public void SetClock(long nanoseconds)
    {
        Invariant.Check(nanoseconds >= _clock);
        _clock = nanoseconds;
    }

    /// <summary>A message arrived. One that cannot be right (foreign receiver, non-member's acks) changes nothing.</summary>
    public void Step(in Message message)
    {
        if (message.To != NodeId || message.From == NodeId || message.From == 0 || IsNoneOfOurs(message))
        {
            return;
        }

        if (message.Term == 0)
        {
            StepTermless(message);
        }
        else if (message.Term < Term)
        {
            AnswerOlderTerm(message);
        }
        else if (message.Term == Term || TryAdoptTerm(message))
        {
            Dispatch(message);
        }
    }

    /// <summary>No node of this cluster says that: an absurd term, or that a node which is no member leads the term which a
    /// member leads. To be heard by nobody is what any message may meet with.</summary>
    private bool IsNoneOfOurs(in Message message)
    {
        if (message.Term > Term)
        {
            return message.Term - Term > TermsAheadMax;
        }

        var leader = Role == CoreRole.Leader ? NodeId : _ackTo;
        return message.Term == Term
            && message.Type is MessageType.Append or MessageType.Heartbeat or MessageType.InstallSnapshot
            && message.From != leader && Membership.Contains(leader) && !Membership.Contains(message.From);
    }

    /// <summary>What is to be done since the last call. The same object every time.</summary>
    public Ready TakeReady()
    {
        _ready.Messages.Clear();
        _ready.MessagesAfterPersist.Clear();
        _ready.Reads.Clear();
        _ready.Fetches.Clear();
        _ready.SnapshotsWanted.Clear();
        if (Role == CoreRole.Leader)
        {
            FlushLeader();
        }
        else
        {
            FlushForwardedReads();
            FlushAck();
        }

        Drain(_messages, _ready.Messages);
        Drain(_messagesAfterPersist, _ready.MessagesAfterPersist);
        Drain(_reads, _ready.Reads);
        _ready.Persist = NextPersist();
        _ready.AfterPersistSequence = _sequence;
        _ready.Committed = NextToApply();
        var softState = (Role, Term, Leader);
        _ready.SoftStateChanged = softState != _toldSoftState;
        _toldSoftState = softState;
        return _ready;
    }

    private static void Drain<T>(List<T> from, List<T> into)
    {
        into.AddRange(from);
        from.Clear();
    }

    private static void Check(CoreOptions options)
    {
        if (options.NodeId == 0
            || options.HeartbeatTicks < 1
            || options.ElectionTicks <= options.HeartbeatTicks
            || options.InflightMessagesMax < 1
            || options.LeaseNanoseconds < 0)
        {
            throw new ArgumentException("the core's options contradict each other", nameof(options));
        }
    }

    /// <summary>Messages for which the receiver's term does not matter, and those of a node that has none yet.</summary>
    private void StepTermless(in Message message)
    {
        switch (message.Type)
        {
            case MessageType.ReadIndex:
                StepReadIndex(message);
                break;
            case MessageType.TransferLeader:
                StepTransferLeader(message);
                break;
            default:
                break;
        }
    }

    /// <summary>A leader of the past would otherwise never learn of this node's newer term, which this node cannot leave
    /// and in which it accepts nothing: it would stay cut off. A pre-candidate of the past learns that it is one.</summary>
    private void AnswerOlderTerm(in Message message)
    {
#if PLANTED_BUGS
        if (Planted.Is(Bug.SilentToOldLeaders))
        {
            return;
        }
#endif
        switch (message.Type)
        {
            case MessageType.Append:
            case MessageType.Heartbeat:
            case MessageType.InstallSnapshot:
                // A rejection of nothing: were the receiver by now leader of this term, it must not read an ack in it.
                Send(new Message { Type = MessageType.AppendResponse, To = message.From, Reject = true });
                break;
            case MessageType.PreVote:
                RefuseVote(message);
                break;
            case MessageType.PreVoteResponse or MessageType.VoteResponse when message.Reject && Role != CoreRole.Leader:
                // Committed in its term is committed in every later one; and who needs to know it may never reach that term.
                LearnCommit(message.Entry);
                break;
            default:
                break;
        }
    }

    /// <summary>A message of a newer term. False: it is not to be handled.</summary>
    private bool TryAdoptTerm(in Message message)
    {
        var isRequest = message.Type is MessageType.Vote or MessageType.PreVote;
        if (isRequest && !message.Force && HearsLeader)
        {
            return false;
        }

        // A pre-vote asks about a term that its sender has not entered, and its grant repeats that term.
        if (message.Type == MessageType.PreVote || (message.Type == MessageType.PreVoteResponse && !message.Reject))
        {
            return true;
        }

        if (message.Type == MessageType.ReadIndexResponse)
        {
            // By way of a node that already knew the newer leader: good, and the last good one of the old term.
            StepReadIndexResponse(message);
        }

        var isLeader = message.Type is MessageType.Append or MessageType.Heartbeat or MessageType.InstallSnapshot;
        BecomeFollower(message.Term, isLeader ? message.From : 0);
        return true;
    }

    private void Dispatch(in Message message)
    {
        switch (message.Type)
        {
            case MessageType.PreVote:
            case MessageType.Vote:
                StepVoteRequest(message);
                break;
            case MessageType.PreVoteResponse:
            case MessageType.VoteResponse:
                StepVoteResponse(message);
                break;
            case MessageType.Append:
                StepAppend(message);
                break;
            case MessageType.AppendResponse:
                StepAppendResponse(message);
                break;
            case MessageType.Heartbeat:
                StepHeartbeat(message);
                break;
            case MessageType.HeartbeatResponse:
                StepHeartbeatResponse(message);
                break;
            case MessageType.InstallSnapshot:
                StepInstallSnapshot(message);
                break;
            case MessageType.TimeoutNow:
                StepTimeoutNow();
                break;
            case MessageType.ReadIndexResponse:
                StepReadIndexResponse(message);
                break;
            case MessageType.ReadIndex:
            case MessageType.TransferLeader:
                StepTermless(message);
                break;
            default:
                break;
        }
    }

    private void SendTermless(in Message message) => _messages.Add(message);

    private void Send(in Message message) => _messages.Add(Stamped(message));

    private void SendAfterPersist(in Message message) => _messagesAfterPersist.Add(Stamped(message));

    private Message Stamped(in Message message) =>
        message with { From = NodeId, Term = message.Term == 0 ? Term : message.Term };
}
