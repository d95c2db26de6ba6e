using KvNode.Raft.Core;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>
/// One core with a disk and a state machine in memory. The disk knows what is durable and forgets the rest in a crash;
/// the state machine keeps a digest of all it applied.
/// </summary>
internal sealed class TinyNode
{
    private readonly Queue<PersistRequest> _underWay = new();
    private readonly List<(ulong Sequence, Message Message)> _heldBack = [];
    private readonly Queue<LogEntry> _toApply = new();

    private readonly List<LogEntry> _diskLog = [];
    private HardState _diskHardState;
    private EntryId _diskBeforeFirst;
    private ulong _diskCommit;
    private ulong _lives;

    /// <param name="start">Where a new cluster's log begins: what its members have in common from the outset.</param>
    public TinyNode(CoreOptions options, Membership membership, EntryId start = default)
    {
        Options = options;
        State = new Applied(start, membership, 0);
        _diskBeforeFirst = start;
        _diskHardState = new HardState(start.Term, 0);
        Core = Start();
    }

    public CoreOptions Options { get; }

    public RaftCore Core { get; private set; }

    /// <summary>What the state machine holds; survives crashes.</summary>
    public Applied State { get; private set; }

    /// <summary>Digest after each index that was applied here.</summary>
    public Dictionary<ulong, ulong> Digests { get; } = [];

    public List<ReadState> Reads { get; } = [];

    public List<ulong> SnapshotsWanted { get; } = [];

    public List<FetchRequest> Fetches { get; } = [];

    public bool IsIdle => _underWay.Count == 0 && _toApply.Count == 0;

    public int PersistsUnderWay => _underWay.Count;

    /// <summary>Takes what the core wants done; messages that may leave go into the list.</summary>
    public void Turn(List<Message> sent)
    {
        for (var ready = Core.TakeReady(); !ready.IsEmpty; ready = Core.TakeReady())
        {
            foreach (var message in ready.Messages)
            {
                sent.Add(Copy(message));
            }

            foreach (var message in ready.MessagesAfterPersist)
            {
                _heldBack.Add((ready.AfterPersistSequence, Copy(message)));
            }

            if (ready.Persist.Sequence > 0)
            {
                _underWay.Enqueue(ready.Persist with { Entries = ready.Persist.Entries.ToArray() });
            }

            foreach (var entry in ready.Committed.Span)
            {
                _toApply.Enqueue(entry);
            }

            Reads.AddRange(ready.Reads);
            SnapshotsWanted.AddRange(ready.SnapshotsWanted);
            Fetches.AddRange(ready.Fetches);
        }

        Release(sent);
    }

    /// <summary>The oldest write under way is done.</summary>
    public void PersistOne(List<Message> sent)
    {
        if (_underWay.TryDequeue(out var request))
        {
            Write(request);
            Core.OnPersisted(request.Sequence);
            _persisted = request.Sequence;
            Turn(sent);
        }
    }

    public void ApplyOne(List<Message> sent)
    {
        if (!_toApply.TryDequeue(out var entry))
        {
            return;
        }

        if (entry.Id.Index == State.Position.Index + 1)
        {
            var membership = State.Membership;
            if (entry.Kind == EntryKind.Configuration)
            {
                membership = membership.TryApply(ConfigurationChange.Decode(entry.Payload.Span), out _) ?? membership;
            }

            var digest = (((State.Digest * 31) + entry.Id.Index) * 31) + entry.Id.Term + (ulong)entry.Payload.Length;
            State = new Applied(entry.Id, membership, digest);
            Digests[entry.Id.Index] = digest;
        }

        Core.OnApplied(entry.Id.Index);
        Turn(sent);
    }

    /// <summary>Everything until nothing is left to do here.</summary>
    public void Settle(List<Message> sent)
    {
        Turn(sent);
        while (!IsIdle)
        {
            PersistOne(sent);
            ApplyOne(sent);
        }
    }

    /// <summary>Loses what is not on disk, except for the first writes under way.</summary>
    public void Crash(int writesDone)
    {
        while (writesDone-- > 0 && _underWay.TryDequeue(out var request))
        {
            Write(request);
        }

        _underWay.Clear();
        _heldBack.Clear();
        _toApply.Clear();
        Reads.Clear();
        SnapshotsWanted.Clear();
        Fetches.Clear();
        _persisted = 0;
        Core = Start();
    }

    /// <summary>What a copy of the disk would hold.</summary>
    public DiskCopy CopyDisk() => new([.. _diskLog], _diskHardState, _diskBeforeFirst, _diskCommit, State);

    /// <summary>A crash after which the disk is as it once was.</summary>
    public void GoBackTo(DiskCopy copy)
    {
        _underWay.Clear();
        _diskLog.Clear();
        _diskLog.AddRange(copy.Log);
        _diskHardState = copy.HardState;
        _diskBeforeFirst = copy.BeforeFirst;
        _diskCommit = copy.Commit;
        State = copy.State;
        Crash(0);
    }

    public bool Restore(ulong leader, ulong term, Applied snapshot, List<Message> sent)
    {
        var isTaken = Core.OnSnapshotReceived(leader, term, snapshot.Position, snapshot.Membership);
        if (isTaken)
        {
            _incoming[snapshot.Position] = snapshot;
        }

        Turn(sent);
        return isTaken;
    }

    /// <summary>Drops the log up to what is applied, but for some entries.</summary>
    public void Compact(ulong kept)
    {
        var through = Math.Min(State.Position.Index, Core.Applied);
        if (through > kept && through - kept > _diskBeforeFirst.Index && through - kept <= Core.Durable)
        {
            var dropped = (int)(through - kept - _diskBeforeFirst.Index);
            _diskBeforeFirst = _diskLog[dropped - 1].Id;
            _diskLog.RemoveRange(0, dropped);
            Core.Log.Compact(through - kept);
        }
    }

    /// <summary>As a driver reads entries back from its log.</summary>
    public ReadOnlyMemory<LogEntry> Fetch(FetchRequest request)
    {
        if (request.FirstIndex <= _diskBeforeFirst.Index)
        {
            return default;
        }

        var from = (int)(request.FirstIndex - _diskBeforeFirst.Index - 1);
        return from >= _diskLog.Count ? default : _diskLog.GetRange(from, Math.Min(4, _diskLog.Count - from)).ToArray();
    }

    /// <summary>Whether this node's disk has an entry, in its log or in its state.</summary>
    public bool HasDurably(EntryId id) =>
        id.Index <= _diskBeforeFirst.Index
        || _diskLog.Exists(entry => entry.Id == id);

    private readonly Dictionary<EntryId, Applied> _incoming = [];
    private ulong _persisted;

    private RaftCore Start()
    {
        _lives++;
        var firstKept = State.Position.Index - _diskBeforeFirst.Index;
        var older = new List<EntryId>();
        for (var i = 0; i < (int)firstKept; i++)
        {
            if (older.Count == 0 || older[^1].Term != _diskLog[i].Id.Term)
            {
                older.Add(_diskLog[i].Id);
            }
        }

        return new RaftCore(
            Options with { Seed = Options.Seed + (_lives << 32) },
            new InitialState
            {
                HardState = _diskHardState,
                Commit = _diskCommit,
                Applied = State.Position,
                Membership = State.Membership,
                BeforeFirst = _diskBeforeFirst,
                OlderTerms = older,
                Tail = _diskLog.GetRange((int)firstKept, _diskLog.Count - (int)firstKept),
            });
    }

    private void Write(in PersistRequest request)
    {
        _diskHardState = request.HardState ?? _diskHardState;
        if (request.Snapshot is { } position)
        {
            State = _incoming[position];
            Digests[position.Index] = State.Digest;
            _diskLog.Clear();
            _diskBeforeFirst = position;
        }

        if (request.TruncateFrom > 0)
        {
            var keep = (int)(request.TruncateFrom - _diskBeforeFirst.Index - 1);
            _diskLog.RemoveRange(keep, _diskLog.Count - keep);
        }

        foreach (var entry in request.Entries.Span)
        {
            Invariant.Check(entry.Id.Index == _diskBeforeFirst.Index + (ulong)_diskLog.Count + 1);
            _diskLog.Add(entry);
        }

        _diskCommit = request.Commit;
    }

    private void Release(List<Message> sent)
    {
        foreach (var (sequence, message) in _heldBack)
        {
            if (sequence <= _persisted)
            {
                sent.Add(message);
            }
        }

        _ = _heldBack.RemoveAll(held => held.Sequence <= _persisted);
    }

    private static Message Copy(in Message message) => message with { Entries = message.Entries.ToArray() };
}

internal sealed record DiskCopy(LogEntry[] Log, HardState HardState, EntryId BeforeFirst, ulong Commit, Applied State);

/// <summary>A state machine's content.</summary>
internal sealed record Applied(EntryId Position, Membership Membership, ulong Digest);
