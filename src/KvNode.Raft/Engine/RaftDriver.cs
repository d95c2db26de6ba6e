using System.Buffers;
using System.Runtime.InteropServices;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

/// <summary>
/// What stands between the core and the world: turns events and batches into the core's inputs, and the core's outputs into
/// writes, messages and work for the state machine. One turn at a time; whoever owns the driver calls <see cref="Turn"/>
/// again and again: a thread in a server, a scheduler in a simulation.
/// </summary>
/// <remarks>One thread at a time. Time comes in as a monotonic number of nanoseconds; the driver has no clock of its own.</remarks>
internal sealed partial class RaftDriver
{
    private readonly DriverOptions _options;
    private readonly DriverParts _parts;
    private readonly RaftCore _core;
    private readonly Mailbox _mailbox;
    private readonly IPeerTransport _links;
    private readonly PersistStage _persist;
    private readonly ApplyStage _apply;
    private readonly EntryArena _arena = new();
    private readonly Queue<(ulong Sequence, Message Message)> _held = new();
    private readonly long _tickNs;
    private List<Event> _events = new(64);
    private int _eventsLeft;
    private long _now;
    private long _nextTick;
    private bool _heardLeader;
    private ulong _persisted;
    private Membership _membership;
    private bool _alone;

    // The end of the log when this node became the whole cluster: up to there, those who left may have acknowledged.
    private ulong _aloneFrom;
    private ulong _lastLeader;
    private ulong _lastTerm;
    private long _noLeaderSince;
    private bool _mayWrite;
    private bool _isApplyDue;
    private bool _isApplyLong;
    private long _applyBytes;

    public RaftDriver(DriverOptions options, DriverParts parts, long now)
    {
        _options = options;
        _parts = parts;
        _core = parts.Core;
        _mailbox = parts.Mailbox;
        _links = parts.Links;
        _persist = parts.Persist;
        _apply = parts.Apply;
        _tickNs = (long)options.Tick.TotalNanoseconds;
        _now = now;
        _nextTick = now + _tickNs;
        _noLeaderSince = now;
        _membership = _core.Membership;
        Configure();
    }

    /// <summary>The configuration in force. Any thread.</summary>
    public Membership Membership => Volatile.Read(ref _membership);

    /// <summary>Does everything that is there to be done now; never blocks but, in a cluster of one, on the log.</summary>
    /// <param name="mayWrite">Whether it may block on the log.</param>
    public void Turn(long now, bool mayWrite = true)
    {
        _now = now;
        _mayWrite = mayWrite;
        _core.SetClock(now);
        // Before the ticks: what arrived during a pause of this process is older than the pause's end.
        TakeEvents();
        RunTicks();
        Drain();
        SealBatches();
        DispatchWrites();
        StartReads();
        Drain();
        Publish();
        _links.Flush();
        RunApply();
    }

    /// <summary>How long the next turn may wait when nothing happens, in milliseconds; -1: for ever.</summary>
    public int WaitMilliseconds(long now) => _alone && _core.Role == CoreRole.Leader && IsQuiet
        ? -1
        : (int)Math.Clamp((_nextTick - now + 999_999) / 1_000_000, 0, 1000);

    /// <summary>What other threads may know.</summary>
    public DriverView View { get; } = new();

    /// <summary>This node is the whole cluster. Any thread.</summary>
    public bool IsAlone => Volatile.Read(ref _alone);

    /// <summary>Whether a batch could be taken now: if not, arriving ones need no turn.</summary>
    public bool WantsBatches => MaySeal();

    /// <summary>Nothing else waits for this thread.</summary>
    private bool IsIdle => _eventsLeft == 0 && !_mailbox.HasWork(wantsBatches: true);

    private bool IsQuiet => _persist.Refusal is null && _parts.Outstanding.Count == 0 && _mailbox.BatchCount == 0;

    private void TakeEvents()
    {
        _mailbox.TakeEvents(ref _events);
        _eventsLeft = _events.Count;
        foreach (ref var item in CollectionsMarshal.AsSpan(_events))
        {
            _eventsLeft--;
            Handle(ref item);
        }

        _events.Clear();
    }

    private void Handle(ref Event item)
    {
        switch (item.Kind)
        {
            case EventKind.Message:
                Receive(ref item);
                break;
            case EventKind.Forward:
                AcceptForward(item);
                break;
            case EventKind.ForwardRefused when item.C == _parts.Start.Incarnation:
                OnForwardRefused(item.B, item.D == RefusedForGood, (string)item.State!);
                break;
            case EventKind.ForwardRefused:
                // Said to an earlier start of this node, of a batch that had the same number.
                break;
            case EventKind.Unreachable:
                _core.ReportUnreachable(item.A);
                break;
            case EventKind.Connected:
                OnConnected(item.A);
                break;
            case EventKind.Persisted:
                OnPersisted(item.A);
                break;
            case EventKind.Applied:
                OnApplied(item.A);
                break;
            case EventKind.Fetched:
                _core.OnFetched(item.A, (LogEntry[])item.State!);
                break;
            default:
                ((Action)item.State!)();
                break;
        }
    }

    /// <summary>The frame's bytes are copied once, next to those of the other entries, and the frame is free again.</summary>
    private void Receive(ref Event item)
    {
        if (item.Rented is { } entries)
        {
            var count = item.Message.Entries.Length;
            // A log that cannot be applied must not grow without end: the leader sends again. But where nothing waits to be
            // applied, only more entries can bring the agreement that lets go of those that are there.
            if (_core.Log.BytesInMemory <= MemoryBytesMax || item.Message.Entry.Index < _core.Log.Last.Index
                || _core.Applied == _core.Commit)
            {
                for (var i = 0; i < count; i++)
                {
                    var payload = entries[i].Payload;
                    var copy = _arena.Rent(payload.Length, entries[i].Id.Index);
                    payload.CopyTo(copy);
                    entries[i] = entries[i] with { Payload = copy };
                }

                _core.Step(item.Message);
            }

            entries.AsSpan(0, count).Clear();
            ArrayPool<LogEntry>.Shared.Return(entries);
        }
        else
        {
            _core.Step(item.Message);
        }

        if (item.Message.From == _core.Leader)
        {
            View.LastContact = _now;
            _heardLeader = true;
        }

        item.Buffer?.Release();
    }

    private long MemoryBytesMax => 8 * _options.CacheBytesMax;

    private void RunTicks()
    {
        if (_now < _nextTick)
        {
            _heardLeader = false;
            return;
        }

        // After a pause (of the process, of the machine) the others' messages of that time are still on their way in:
        // the pause counts as one tick, not as silence of the leader's. Nor is it silence when the leader has just been heard
        // and answered: it counts on all the time from then on.
        var missed = (_now - _nextTick) / _tickNs;
        var isPause = _heardLeader || _now - _nextTick > _options.ElectionTimeout.TotalNanoseconds / 2;
        var ticks = isPause ? 1 : missed + 1;
        _heardLeader = false;
        for (var i = 0L; i < ticks; i++)
        {
            _core.Tick();
        }

        _nextTick += (missed + 1) * _tickNs;
        View.Peers = IsLeader && !_alone ? _core.Peers : [];
        RetryReads();
        FailExpired();
        WatchDisk();
        Promote();
        TrimLog();
        _retryForwards = true;
    }

    private void PublishView() => View.Publish(_core, _alone && _core.Applied >= _aloneFrom);

    /// <summary>Does what the core wants, until it wants nothing more. Raft thread; from outside after an input that came as an
    /// action and must be dealt with before the next one.</summary>
    public void Drain()
    {
        while (true)
        {
            var ready = _core.TakeReady();
            if (ready.IsEmpty)
            {
                return;
            }

            // Before anything leaves: a peer that learns of a commit or may take over must not be ahead of this node's own reads,
            // and what is sent may leave at once.
            PublishView();
            foreach (ref readonly var message in CollectionsMarshal.AsSpan(ready.Messages))
            {
                _links.Send(message);
            }

            var written = Persist(ready.Persist);
            foreach (ref readonly var message in CollectionsMarshal.AsSpan(ready.MessagesAfterPersist))
            {
#if PLANTED_BUGS
                if (Planted.Is(Bug.VoteBeforeDurable))
                {
                    _links.Send(message);
                    continue;
                }
#endif
                _held.Enqueue((ready.AfterPersistSequence, message));
            }

            foreach (ref readonly var read in CollectionsMarshal.AsSpan(ready.Reads))
            {
                OnReadState(read);
            }

            foreach (ref readonly var fetch in CollectionsMarshal.AsSpan(ready.Fetches))
            {
                _parts.Fetcher.Fetch(fetch);
            }

            foreach (var peer in ready.SnapshotsWanted)
            {
                _parts.Snapshots.Send(peer, _core.Term);
            }

            if (ready.SoftStateChanged)
            {
                OnSoftState();
            }

            var committed = ready.Committed;
            var applied = Apply(committed);
            if (written != 0)
            {
                OnPersisted(written);
            }
            else
            {
                ReleaseHeld();
            }

            if (applied)
            {
                OnApplied(_apply.AppliedIndex);
            }
        }
    }

    /// <returns>The sequence, when it was written at once.</returns>
    private ulong Persist(in PersistRequest request)
    {
        if (request.Sequence == 0)
        {
            return 0;
        }

        // A cluster of one waits for nobody but its disk, and what the disk refuses was never seen by anybody.
        if (_alone && _mayWrite && _core.Role == CoreRole.Leader && request.HardState is null && !request.Entries.IsEmpty
            && _persist.TryRunHere(request, out var refusal))
        {
            if (refusal is null)
            {
                return request.Sequence;
            }

            Withdraw(request, refusal);
            return 0;
        }

        _persist.Submit(request, request.Snapshot is null ? null : _parts.Snapshots.TakeInstall());
        return 0;
    }

    private void OnPersisted(ulong sequence)
    {
        _persisted = Math.Max(_persisted, sequence);
        _core.OnPersisted(sequence);
        // A snapshot that was taken over brings its configuration.
        ConfigureIfChanged();
        ReleaseHeld();
    }

    private void ReleaseHeld()
    {
        while (_held.TryPeek(out var first) && first.Sequence <= _persisted)
        {
            _links.Send(_held.Dequeue().Message);
        }
    }

    /// <returns>True when it was done at once.</returns>
    private bool Apply(ReadOnlyMemory<LogEntry> committed)
    {
        if (committed.IsEmpty)
        {
            return false;
        }

        foreach (ref readonly var entry in committed.Span)
        {
            Weigh(entry);
        }

        // Alone, with nothing else to do here, a hop less.
        if (_alone && MayApplyHere && _apply.TryRunHere(committed.Span))
        {
            _applyBytes = 0;
            return true;
        }

        _apply.HandOver(committed.Span);
        _isApplyDue = true;
        return false;
    }

    /// <summary>Batches have become ready that need no entry.</summary>
    private void AnswerSoon()
    {
        _apply.HandOverAnswers();
        _isApplyDue = true;
    }

    // Applying here spares a hop. Not while something else waits for the turn, and not when it would take long or wait for a
    // disk: the thread that has the turn may be the one that serves the clients.
    private bool MayApplyHere => _options.ApplyInline && !_isApplyLong && IsIdle && _parts.Outstanding.LongReads == 0
        && !_parts.Machine.ApplyMayWait;

    /// <summary>What the state machine is to do, when what goes to the others is on its way: here, if it is soon done, else on its
    /// own thread.</summary>
    private void RunApply()
    {
        if (!_isApplyDue)
        {
            return;
        }

        _isApplyDue = false;
        if (!MayApplyHere || !_apply.TryRunHere())
        {
            _apply.Wake();
        }

        _isApplyLong = false;
        _applyBytes = 0;
    }

    private void Weigh(in LogEntry entry)
    {
        _applyBytes += entry.Payload.Length;
        _isApplyLong |= _applyBytes > _options.ApplyHereBytesMax;
        var payload = entry.Kind == EntryKind.Normal && !_isApplyLong ? entry.Payload : default;
        while (!_isApplyLong && SubBatch.TryRead(ref payload, out var batch))
        {
            _isApplyLong = _parts.Machine.IsLong(batch.Payload.Span);
        }
    }

    private void OnApplied(ulong index)
    {
        if (index <= _core.Applied)
        {
            return;
        }

        _core.OnApplied(index);
        ConfigureIfChanged();
        CompleteChanges(index);
        if (_alone)
        {
            TrimLog();
        }
    }

    private void ConfigureIfChanged()
    {
        if (!ReferenceEquals(_core.Membership, _membership))
        {
            Configure();
        }
    }

    private void Configure()
    {
        var wasAlone = _alone;
        Volatile.Write(ref _membership, _core.Membership);
        _alone = _membership.Voters.Count == 1 && _membership.Voters[0] == _core.NodeId && !_membership.IsJoint
            && _membership.Learners.Count == 0;
        _aloneFrom = _alone && !wasAlone ? _core.Log.Last.Index : _aloneFrom;
        _links.SetPeers(_membership.Addresses);
        ForgetPromotions();
    }

    private void OnConnected(ulong peer)
    {
        // What was sent on the way before may be lost, and what the peer had, too.
        _core.ReportConnected(peer);
#if PLANTED_BUGS
        if (Planted.Is(Bug.NeverSendsAgain))
        {
            return;
        }
#endif
        if (peer == _core.Leader)
        {
            ResendAll();
        }
    }

    private void OnSoftState()
    {
        var leader = _core.Leader;
        if (leader == _lastLeader && _core.Term == _lastTerm)
        {
            return;
        }

        if (leader == 0 && _lastLeader != 0)
        {
            _noLeaderSince = _now;
        }

        if (leader != _lastLeader || leader != 0)
        {
            _parts.LeaderChanged(_core.Term, leader);
        }

        (_lastLeader, _lastTerm) = (leader, _core.Term);
        ResendAll();
    }
}
