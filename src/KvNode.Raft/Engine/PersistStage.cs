using System.Diagnostics;
using KvNode.Native;
using KvNode.Raft.Core;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Engine;

/// <summary>
/// Brings what the core wants on disk into the log, in order. One dedicated thread gathers what waits, writes it, syncs once
/// and reports; while it syncs, the next lot gathers by itself. A node that is its whole cluster writes on the raft thread
/// instead: there is nobody else to serve meanwhile, and a hop less.
/// </summary>
/// <remarks>Appending is done by one of the two at a time, in order.</remarks>
internal sealed class PersistStage
{
    // Room that must be there before writes are taken again after the disk was full.
    private const int ResumeBytes = 4096;

    private readonly WriteAheadLog _log;
    private readonly PersistOptions _options;
    private readonly Action<ulong> _persisted;
    private readonly Lock _gate = new();
    private readonly Signal _signal = new();
    private List<WalRecord> _records = [];
    private List<WalRecord> _taken = [];
    private ulong _sequence;
    private SnapshotJob? _snapshot;
    private bool _busy;
    private bool _closed;
    private long _syncDueAt;
    private long _busySince;
    private string? _refusal;

    // What was taken and is not written yet.
    private ulong _takenSequence;
    private SnapshotJob? _takenSnapshot;
    private int _takenDone;

    /// <param name="persisted">Told, on the thread that wrote, that everything up to a sequence is durable. Not for what
    /// <see cref="TryRunHere"/> writes.</param>
    public PersistStage(WriteAheadLog log, PersistOptions options, Action<ulong> persisted)
    {
        _log = log;
        _options = options;
        _persisted = persisted;
    }

    private sealed record SnapshotJob(ulong Sequence, EntryId Position, Action Install);

    /// <summary>Why nothing can be written now; null when it can.</summary>
    public string? Refusal => Volatile.Read(ref _refusal);

    /// <summary>How long the write under way has taken until now; zero when none is.</summary>
    public TimeSpan BusyTime => Volatile.Read(ref _busySince) is var since and not 0
        ? _options.Time.GetElapsedTime(since)
        : TimeSpan.Zero;

    /// <summary>Something was handed over and not taken yet.</summary>
    public bool HasWork
    {
        get
        {
            lock (_gate)
            {
                return _records.Count > 0;
            }
        }
    }

    /// <summary>Hands over a request. Its entries' payloads must stay until it is reported.</summary>
    /// <param name="install">For a request with a snapshot: makes the state machine take it over, before the log says so.</param>
    public void Submit(in PersistRequest request, Action? install)
    {
        lock (_gate)
        {
            Invariant.Check(_snapshot is null || request.Snapshot is null);
            if (request.Snapshot is { } position)
            {
                Invariant.Check(install is not null);
                _snapshot = new SnapshotJob(request.Sequence, position, install);
            }

            AddRecords(request, _records);
            _sequence = request.Sequence;
        }

        _signal.Set();
    }

    /// <summary>
    /// Writes a request on the caller's thread, and syncs, when nothing else is under way.
    /// </summary>
    /// <param name="refusal">Set: the disk is full and nothing of it was written.</param>
    /// <returns>False: something is under way, submit it.</returns>
    public bool TryRunHere(in PersistRequest request, out string? refusal)
    {
        refusal = null;
        lock (_gate)
        {
            if (_busy || _records.Count > 0 || _snapshot is not null || request.Snapshot is not null)
            {
                return false;
            }

            _busy = true;
        }

        AddRecords(request, _taken);
        try
        {
            _log.Append(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_taken));
            SyncAsAsked();
        }
        catch (DiskFullException e)
        {
            refusal = e.Message;
            RefuseUnlessRoom(e.Message);
        }
        finally
        {
            _taken.Clear();
            bool isMore;
            lock (_gate)
            {
                _busy = false;
                isMore = _records.Count > 0 || _syncDueAt != 0 || _closed;
            }

            if (isMore)
            {
                _signal.Set();
            }
        }

        return true;
    }

    /// <summary>After the disk was full: whether there is room again. Called now and then within a turn, while nothing
    /// is under way.</summary>
    public void TryResume()
    {
        lock (_gate)
        {
            if (_busy || _records.Count > 0)
            {
                return;
            }

            _busy = true;
        }

        RefuseUnlessRoom(reason: null);
        lock (_gate)
        {
            _busy = false;
        }
    }

    /// <summary>The thread's work, until <see cref="Close"/>; then it has written and synced everything that the disk took.</summary>
    public void Run()
    {
        while (WaitForWork())
        {
            if (!TryBegin())
            {
                RunDueSync();
                continue;
            }

            // What a node has not on disk it has not acknowledged: it may wait as long as it takes, but for the end.
            bool isDone;
            while (!(isDone = TryFinish()) && !IsClosed)
            {
                Thread.Sleep(_options.ResumeInterval);
            }

            if (!isDone)
            {
                break;
            }
        }

        _log.Sync();
    }

    private bool IsClosed
    {
        get
        {
            lock (_gate)
            {
                return _closed;
            }
        }
    }

    /// <summary>Takes what waits, without waiting for it; <see cref="TryFinish"/> writes it. The thread's work in two
    /// steps, for whoever has no thread for it.</summary>
    /// <returns>False: nothing waits, or something is under way.</returns>
    public bool TryBegin()
    {
        lock (_gate)
        {
            if (_busy || _records.Count == 0)
            {
                return false;
            }

            (_records, _taken) = (_taken, _records);
            _takenSequence = _sequence;
            _takenSnapshot = _snapshot;
            _snapshot = null;
            _busy = true;
        }

        Volatile.Write(ref _busySince, Math.Max(1, _options.Time.GetTimestamp()));
        return true;
    }

    /// <summary>Writes what <see cref="TryBegin"/> took, syncs and reports.</summary>
    /// <returns>False: the disk is full; try again later.</returns>
    public bool TryFinish()
    {
        // The state first: a log that restarts at a position which the state does not have could not be started from.
#if PLANTED_BUGS
        if (Planted.Is(Bug.LogBeforeSnapshot) && !TryWrite())
        {
            return false;
        }
#endif
        _takenSnapshot?.Install();
        _takenSnapshot = null;
        if (!TryWrite())
        {
            return false;
        }

        SyncAsAsked();
        Volatile.Write(ref _busySince, 0);
        _taken.Clear();
        _takenDone = 0;
        var sequence = _takenSequence;
        Release();
        _persisted(sequence);
        return true;
    }

    /// <summary>Lets the thread end when all that was handed over is written.</summary>
    public void Close()
    {
        lock (_gate)
        {
            _closed = true;
        }

        _signal.Set();
    }

    private static void AddRecords(in PersistRequest request, List<WalRecord> records)
    {
        if (request.HardState is { } state)
        {
            records.Add(WalRecord.Of(state));
        }

        if (request.TruncateFrom != 0)
        {
            records.Add(WalRecord.Truncate(request.TruncateFrom));
        }

        if (request.Snapshot is { } position)
        {
            records.Add(WalRecord.SnapshotMarker(position));
        }

        var said = 0UL;
        foreach (ref readonly var entry in request.Entries.Span)
        {
            // Elections rest on it that who has a change in its log knows the change before to be committed: it must not get to
            // the disk without that, wherever the writing ends.
            var known = Math.Min(request.Commit, entry.Id.Index - 1);
            if (entry.Kind == EntryKind.Configuration && known > said)
            {
                records.Add(WalRecord.Commit(known));
                said = known;
            }

            records.Add(WalRecord.Entry(entry.Id, entry.Kind, entry.Payload));
        }

        // Lazily: a write that happens anyway carries it along.
        if (request.Commit > said)
        {
            records.Add(WalRecord.Commit(request.Commit));
        }
    }

    /// <summary>Until there are records, a sync is due or the end has come. False: the end has.</summary>
    private bool WaitForWork()
    {
        while (true)
        {
            _signal.Reset();
            lock (_gate)
            {
                if (!_busy && (_records.Count > 0 || _closed || IsSyncDue()))
                {
                    return _records.Count > 0 || !_closed;
                }
            }

            _signal.Wait(WaitMilliseconds());
        }
    }

    private void Release()
    {
        lock (_gate)
        {
            _busy = false;
        }
    }

    private bool TryWrite()
    {
        var records = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_taken);
        while (_takenDone < records.Length)
        {
            var left = records[_takenDone..];
            var count = CountForFrame(left);
            try
            {
                _log.Append(left[..count]);
            }
            catch (DiskFullException e)
            {
                Volatile.Write(ref _refusal, e.Message);
                return false;
            }

            _takenDone += count;
            Volatile.Write(ref _refusal, null);
        }

        return true;
    }

    private int CountForFrame(ReadOnlySpan<WalRecord> records)
    {
        var bytes = 0L;
        var count = 0;
        while (count < records.Length && (count == 0 || bytes + records[count].EncodedBytes <= _options.FrameBytesMax))
        {
            bytes += records[count++].EncodedBytes;
        }

        return count;
    }

    private void SyncAsAsked()
    {
        // A term and a vote at every level: were they lost, one term could have two leaders, whose entries nobody tells apart.
        if (_options.Durability == Durability.High || _taken.Exists(static record => record.Kind == RecordKind.HardState))
        {
            _log.Sync();
        }
        else if (_options.Durability == Durability.Medium && Volatile.Read(ref _syncDueAt) == 0)
        {
            Volatile.Write(ref _syncDueAt, Stopwatch.GetTimestamp() + (long)(_options.SyncInterval.TotalSeconds * Stopwatch.Frequency));
        }
    }

    private void RunDueSync()
    {
        if (IsSyncDue())
        {
            Volatile.Write(ref _syncDueAt, 0);
            _log.Sync();
        }
    }

    private bool IsSyncDue()
    {
        var due = Volatile.Read(ref _syncDueAt);
        return due != 0 && Stopwatch.GetTimestamp() >= due;
    }

    private int WaitMilliseconds()
    {
        var due = Volatile.Read(ref _syncDueAt);
        return due == 0
            ? Timeout.Infinite
            : (int)Math.Max(1, Math.Ceiling(Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), due).TotalMilliseconds));
    }

    /// <summary>A large frame may lack room where small ones still find it.</summary>
    private void RefuseUnlessRoom(string? reason)
    {
        try
        {
            _log.Reserve(ResumeBytes);
            Volatile.Write(ref _refusal, null);
        }
        catch (DiskFullException e)
        {
            Volatile.Write(ref _refusal, reason ?? e.Message);
        }
    }
}

/// <summary>How the log is written.</summary>
internal sealed record PersistOptions
{
    public Durability Durability { get; init; }

    /// <summary>Between syncs when they are not per write.</summary>
    public TimeSpan SyncInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>What tells how long a write takes.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Between two tries while the disk is full.</summary>
    public TimeSpan ResumeInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Payload of one frame; a single larger record still goes alone.</summary>
    public long FrameBytesMax { get; init; } = 4 << 20;
}
