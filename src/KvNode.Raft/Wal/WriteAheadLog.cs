using System.Diagnostics;
using KvNode.Native;
using KvNode.Raft.Core;

namespace KvNode.Raft.Wal;

/// <summary>Counters of a log; each is true by itself.</summary>
internal readonly record struct WalMetrics(
    long Entries, long Syncs, long SyncMicroseconds, long SyncMicrosecondsMax, long BytesWritten);

/// <summary>
/// The log on disk: a chain of frames in segment files.
/// </summary>
/// <remarks>
/// One thread appends (<see cref="Append"/>, <see cref="Reserve"/>). <see cref="Sync"/>, <see cref="EnsureDurable"/>,
/// <see cref="Retire"/>, <see cref="ReadEntries"/> and the properties, where they do not say otherwise, may be used from
/// any thread. Only the active segment ever has bytes that are not synced: a roll syncs first. After an exception other than <see cref="DiskFullException"/> the log
/// accepts nothing more.
/// </remarks>
internal sealed class WriteAheadLog : IDisposable
{
    /// <param name="IndexMax">The highest index of an entry written in it, void or not.</param>
    private readonly record struct Sealed(ulong Id, long Bytes, ulong IndexMax);

    private readonly SegmentPool _pool;
    private readonly NativeBuffer _buffer = new();

    // Covers _map, _sealed, _firstSegment, _marker and _activeFirstSequence. Never held while files are used, but for
    // what the pool does in a retirement.
    private readonly Lock _gate = new();
    private readonly LogMap _map;
    private readonly LogReader _reader;

    // Segments before the active one.
    private readonly Queue<Sealed> _sealed = new();

    // Held while the active file is synced or exchanged.
    private readonly Lock _syncGate = new();

    private readonly ulong _logId;
    private ulong _activeId;
    private ulong _activeFirstSequence;
    private IDiskFile? _active;
    private long _capacity;
    private long _offset;
    private bool _blank;
    private SegmentHeader _blankHeader;
    private ulong _nextSequence;
    private uint _chain;
    private LogState _state;
    private ulong _activeIndexMax;
    private ulong _firstSegment = 1;
    private MarkerPlace _marker;

    // Records with what the log adds to them; used only when there is something to add.
    private WalRecord[] _completed = [];

    // What a failed write may have left behind in the active segment.
    private long _dirtyEnd;

    // Published by the appender after each write, in this order; read in the opposite one.
    private ulong _writtenSequence;
    private ulong _writtenIndex;

    // Published under _syncGate.
    private ulong _durableSequence;
    private ulong _durableIndex;

    private Exception? _failure;
    private ulong _beforeFirst;
    private long _sealedBytes;
    private long _entries;
    private long _syncs;
    private long _syncTicks;
    private long _syncTicksMax;
    private long _bytesWritten;

    private WriteAheadLog(IDisk disk, WalOptions options, WalImage image, SegmentPool pool)
    {
        Disk = disk;
        Options = options;
        Image = image;
        _pool = pool;
        _logId = image.LogId;
        _state = image.State;
        _marker = image.Marker;
        _map = new LogMap(image.Map);
        _reader = new LogReader(disk, _logId, _gate, _map, () => _firstSegment);
        _nextSequence = image.NextSequence;
        _chain = image.Chain;
        _beforeFirst = image.BeforeFirst.Index;
        _writtenSequence = _durableSequence = image.NextSequence - 1;
        _writtenIndex = _durableIndex = image.Last.Index;
    }

    public IDisk Disk { get; }

    public WalOptions Options { get; }

    /// <summary>What was on disk when the log was opened.</summary>
    public WalImage Image { get; }

    /// <summary>The last entry written. For the appending thread.</summary>
    public EntryId Last => _state.Last;

    /// <summary>For the appending thread.</summary>
    public HardState HardState => _state.HardState;

    /// <summary>The commit index written last. For the appending thread.</summary>
    public ulong Commit => _state.Commit;

    /// <summary>Number of the segment that is written to.</summary>
    public ulong ActiveSegment => Interlocked.Read(ref _activeId);

    /// <summary>Index of the first entry still in the log.</summary>
    public ulong FirstIndex => Volatile.Read(ref _beforeFirst) + 1;

    /// <summary>
    /// Entries up to this index, as they are now, are synced. A truncation takes it back; a snapshot marker takes it to 0
    /// until it is synced.
    /// </summary>
    public ulong DurableIndex => Volatile.Read(ref _durableIndex);

    public bool HasUnsynced => Volatile.Read(ref _writtenSequence) != Volatile.Read(ref _durableSequence);

    /// <summary>Bytes of all its files.</summary>
    public long Bytes => Interlocked.Read(ref _sealedBytes) + Interlocked.Read(ref _capacity) + _pool.Bytes;

    public WalMetrics Metrics => new(
        Volatile.Read(ref _entries),
        Volatile.Read(ref _syncs),
        Microseconds(Volatile.Read(ref _syncTicks)),
        Microseconds(Volatile.Read(ref _syncTicksMax)),
        Volatile.Read(ref _bytesWritten));

    /// <summary>Opens the log in a directory, making a new one where there is none, and cuts a torn tail.</summary>
    /// <param name="newLogId">Names the log if it is new; random.</param>
    /// <exception cref="LogCorruptException">It is damaged; nothing was changed.</exception>
    /// <exception cref="DiskFullException">There is no room for its first segment.</exception>
    public static WriteAheadLog Open(IDisk disk, WalOptions options, ulong newLogId)
    {
        // An earlier process may have been killed between a rename and its sync.
        disk.SyncDirectory();
        var image = WalRecovery.Inspect(disk);
        WalRepair.Run(disk, options, image);
        if (image.Used.Count == 0)
        {
            image.LogId = newLogId;
        }

        var pool = new SegmentPool(disk, options);
        var log = new WriteAheadLog(disk, options, image, pool);
        try
        {
            log.OpenSegments();
            return log;
        }
        catch
        {
            log.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Feeds the entries after one and up to an index to a sink in large spans, none that has become void. For the start:
    /// not while segments are being retired.
    /// </summary>
    /// <exception cref="LogCorruptException">The log does not continue the entry.</exception>
    public void Replay(EntryId after, ulong through, ReplaySink sink)
    {
        LogMap map;
        lock (_gate)
        {
            map = new LogMap(_map);
        }

        WalReplay.CheckFits(map, after);
        WalReplay.Run(Disk, _logId, map, after.Index, through, sink);
    }

    /// <summary>As above, to the log's end.</summary>
    public void Replay(EntryId after, ReplaySink sink) => Replay(after, ulong.MaxValue, sink);

    /// <summary>All entries from an index on, in memory of their own. For the start.</summary>
    /// <exception cref="LogCorruptException">It cannot be read any more.</exception>
    public List<LogEntry> LoadTail(ulong firstIndex)
    {
        var entries = _reader.Read(firstIndex, ulong.MaxValue, long.MaxValue);
        Invariant.Check(firstIndex >= FirstIndex);
        Invariant.Check((ulong)entries.Count == Math.Max(Last.Index + 1, firstIndex) - firstIndex);
        return entries;
    }

    /// <summary>
    /// Entries from first to last as they are now, in memory of their own: at least one if the first one is there, and
    /// together not more than so many bytes by <see cref="LogEntry.Size"/>. Fewer, or none, when they are not there, not
    /// yet or not any more. Any thread, while others append, cut and retire. Reads from disk, at most some 64 KiB and a
    /// frame in vain.
    /// </summary>
    /// <exception cref="LogCorruptException">What is on disk is not what was written.</exception>
    public List<LogEntry> ReadEntries(ulong first, ulong last, long bytesMax) => _reader.Read(first, last, bytesMax);

    /// <summary>The last entry that is not in the log any more: given up, or a received snapshot's. Any thread.</summary>
    public EntryId BeforeFirst
    {
        get
        {
            lock (_gate)
            {
                return _map.BeforeFirst;
            }
        }
    }

    /// <summary>The first entry of each run of equal terms that is in the log now, in order. Any thread.</summary>
    public List<EntryId> CopyTermRuns()
    {
        lock (_gate)
        {
            return [.. _map.TermRuns];
        }
    }

    /// <summary>The term of an entry that is in the log, or of the one before the first. Any thread.</summary>
    public bool TryTerm(ulong index, out ulong term)
    {
        lock (_gate)
        {
            return _map.TryTerm(index, out term);
        }
    }

    /// <summary>
    /// Writes the records as one frame, in order; not synced. Entries must continue the log as it is at that point of the
    /// frame: after a truncation from where it cut, after a snapshot marker from there.
    /// </summary>
    /// <exception cref="DiskFullException">Nothing was written, and nothing of it can ever come back.</exception>
    /// <exception cref="InvariantException">The records cannot follow what is there. Nothing was written.</exception>
    public void Append(ReadOnlySpan<WalRecord> records)
    {
        ThrowIfFailed();
        var state = Complete(ref records);
        var payloadBytes = FrameEncoder.PayloadBytes(records);
        Invariant.Check(payloadBytes <= WalFormat.FramePayloadBytesMax);
        var layout = FrameLayout.For((int)payloadBytes);
        Reserve(layout.Bytes);

        var front = _blank ? SegmentHeader.Bytes : 0;
        var start = _blank ? 0 : _offset;
        var buffer = _buffer.Take(front + layout.Bytes);
        if (_blank)
        {
            _blankHeader.Encode(buffer);
        }

        var header = new FrameHeader(
            _logId,
            _activeId,
            _nextSequence,
            Volatile.Read(ref _durableSequence),
            Mask: 0,
            _chain,
            (int)payloadBytes,
            records.Length,
            HeadCrc: 0,
            Place: (uint)((start + front) / WalFormat.SectorBytes));
        var chain = FrameEncoder.Encode(header, layout, records, buffer[front..]);
        Write(start, buffer);
        _buffer.Trim();

        _blank = false;
        _offset = start + buffer.Length;
        _chain = chain;
        _nextSequence++;
        _state = state;
        Remember(records, start + front, header.Sequence);
        Volatile.Write(ref _bytesWritten, _bytesWritten + buffer.Length);
        _completed.AsSpan().Clear();
    }

    /// <summary>Makes sure that a frame of this size can be written, rolling to the next segment if need be.</summary>
    /// <exception cref="DiskFullException">There is no room. Try again later.</exception>
    public void Reserve(long frameBytes)
    {
        ThrowIfFailed();
        _pool.ThrowIfBroken();
        Heal();
        if (_offset + frameBytes <= _capacity)
        {
            return;
        }

        if (!_blank)
        {
            Roll();
        }

        if (_offset + frameBytes > _capacity)
        {
            Extend(_offset + frameBytes);
        }
    }

    /// <summary>Makes all that was written durable.</summary>
    /// <exception cref="SyncFailedException">It is not, and will never be known to be.</exception>
    public void Sync()
    {
        lock (_syncGate)
        {
            SyncLocked();
        }
    }

    /// <summary>Makes the entries up to an index durable; at once when they are.</summary>
    /// <exception cref="SyncFailedException">As for <see cref="Sync"/>.</exception>
    public void EnsureDurable(ulong index)
    {
        if (Volatile.Read(ref _durableIndex) >= index)
        {
            return;
        }

        lock (_syncGate)
        {
            if (_durableIndex < index)
            {
                Invariant.Check(index <= Volatile.Read(ref _writtenIndex));
                SyncLocked();
            }
        }
    }

    /// <summary>
    /// Gives up whole segments whose entries, void ones too, all have an index up to this one, or stand before a durable
    /// snapshot marker that has. The last segment with a durable frame always stays: it is what tells where the log
    /// stands. What the state machine holds durably, and no more, may be given up.
    /// </summary>
    /// <returns>Segments given up.</returns>
    public int Retire(ulong index)
    {
        lock (_gate)
        {
            var durable = Volatile.Read(ref _durableSequence);
            var restarted = _marker.Index <= index && _marker.Sequence <= durable ? _marker.Segment : 0;
            var keep = durable < _activeFirstSequence ? 1 : 0;
            var count = 0;
            while (_sealed.Count > keep && _sealed.Peek() is var next
                && (next.IndexMax <= index || next.Id < restarted))
            {
                var oldest = _sealed.Dequeue();
                _firstSegment = oldest.Id + 1;
                _map.Forget(oldest.Id);
                Volatile.Write(ref _beforeFirst, _map.BeforeFirst.Index);
                _ = Interlocked.Add(ref _sealedBytes, -oldest.Bytes);
                _pool.Retire(oldest.Id, oldest.Bytes);
                count++;
            }

            return count;
        }
    }

    /// <summary>Closes the files. Does not sync.</summary>
    public void Dispose()
    {
        _pool.Dispose();
        lock (_syncGate)
        {
            _active?.Dispose();
            _active = null;
            _failure ??= new ObjectDisposedException(nameof(WriteAheadLog));
        }

        _buffer.Dispose();
    }

    private static long Microseconds(long ticks) => (long)(ticks * (1_000_000.0 / Stopwatch.Frequency));

    private void OpenSegments()
    {
        foreach (var spare in Image.Spares)
        {
            _pool.AddSpare(spare);
        }

        foreach (var blank in Image.Blank)
        {
            _pool.AddReady(blank.Id, blank.Bytes);
        }

        for (var i = 0; i < Image.Used.Count - 1; i++)
        {
            var segment = Image.Used[i];
            _sealed.Enqueue(new Sealed(segment.Id, segment.Bytes, segment.IndexMax));
            _sealedBytes += segment.Bytes;
        }

        if (Image.Used.Count == 0)
        {
            Activate(1, before: null);
            return;
        }

        var last = Image.Used[^1];
        _firstSegment = Image.Used[0].Id;
        _activeIndexMax = last.IndexMax;
        _activeId = last.Id;
        _activeFirstSequence = last.Header.FirstSequence;
        _active = Disk.Open(WalFormat.SegmentName(last.Id));
        _capacity = last.Bytes & ~(long)(WalFormat.SectorBytes - 1);
        _offset = Image.End;
        _pool.Prepare(_activeId + 1);
    }

    private void Activate(ulong id, Sealed? before)
    {
        var (file, bytes) = _pool.Take(id);
        lock (_syncGate)
        {
            _active?.Dispose();
            _active = file;
        }

        _activeIndexMax = 0;
        lock (_gate)
        {
            _activeFirstSequence = _nextSequence;
            if (before is { } sealedSegment)
            {
                _sealed.Enqueue(sealedSegment);
                _ = Interlocked.Add(ref _sealedBytes, sealedSegment.Bytes);
            }
        }

        _ = Interlocked.Exchange(ref _activeId, id);
        _ = Interlocked.Exchange(ref _capacity, bytes & ~(long)(WalFormat.SectorBytes - 1));
        _offset = SegmentHeader.Bytes;
        _blank = true;
        _blankHeader = new SegmentHeader(_logId, id, _nextSequence, _state, _chain);
        _pool.Prepare(id + 1);
    }

    private void Roll()
    {
        // Even where the durability level asks for no sync: recovery relies on it, and it is once per segment.
        Sync();
        Activate(_activeId + 1, new Sealed(_activeId, _capacity, _activeIndexMax));
    }

    /// <summary>Makes the blank active segment larger, for a frame larger than a segment.</summary>
    private void Extend(long bytes)
    {
        Invariant.Check(_blank);
        // An ordinary segment cut short grows back, unless the disk is nearly full.
        var ordinary = Options.SegmentBytes - _capacity <= Disk.FreeBytes / 4 ? Options.SegmentBytes : 0;
        var needed = Math.Max(bytes, ordinary);
        if (needed - _capacity > Disk.FreeBytes)
        {
            throw DiskFullException.ForSegment(needed, Disk.FreeBytes);
        }

        WriteZeros(_capacity, needed);
        _ = Interlocked.Exchange(ref _capacity, needed);
    }

    private void Write(long start, ReadOnlySpan<byte> bytes)
    {
        try
        {
            _active!.Write(start, bytes);
        }
        catch (IOException e) when (DiskFullException.Explains(e))
        {
            // A part may have reached the file. It can never become a frame, for its last sector is missing, but
            // nothing may be written over it before it is zero again.
            _dirtyEnd = start + bytes.Length;
            throw new DiskFullException(e.Message, e);
        }
        catch (Exception e)
        {
            _failure = e;
            throw;
        }
    }

    /// <summary>
    /// Zeros what a failed write left, durably. Were a new frame written over it at once, a power loss could leave
    /// sectors of both, and that looks like damage.
    /// </summary>
    private void Heal()
    {
        if (_dirtyEnd == 0)
        {
            return;
        }

        WriteZeros(_blank ? 0 : _offset, _dirtyEnd);
        _dirtyEnd = 0;
    }

    private void WriteZeros(long from, long to)
    {
        try
        {
            SegmentPool.WriteZeros(_active!, from, to);
        }
        catch (IOException e) when (DiskFullException.Explains(e))
        {
            throw new DiskFullException(e.Message, e);
        }
        catch (Exception e)
        {
            _failure = e;
            throw;
        }
    }

    /// <summary>Checks that the records can follow, and gives truncations the term that they repeat.</summary>
    /// <returns>What the log says after them.</returns>
    private LogState Complete(ref ReadOnlySpan<WalRecord> records)
    {
        var state = _state;
        for (var i = 0; i < records.Length; i++)
        {
            if (records[i].Kind == RecordKind.Truncate)
            {
                records = CompleteTruncation(records, i);
            }

            Invariant.Check(records[i].IsKnown);
            state = records[i].Kind == RecordKind.Entry && records[i].Id.Index == state.Last.Index + 1
                && records[i].Id.Term >= state.Last.Term
                ? state with { Last = records[i].Id }
                : state.After(records[i], out var refusal) ?? throw new InvariantException(refusal);
        }

        return state;
    }

    private ReadOnlySpan<WalRecord> CompleteTruncation(ReadOnlySpan<WalRecord> records, int at)
    {
        var from = records[at].Id.Index;
        var known = TryTermInFrame(records[..at], from - 1, out var term) || TryTerm(from - 1, out term);
        Invariant.Check(known);
        if (_completed.Length < records.Length)
        {
            _completed = new WalRecord[Math.Max(records.Length, 2 * _completed.Length)];
        }

        // Onto itself, from the second one on.
        records.CopyTo(_completed);
        _completed[at] = records[at] with { Id = new EntryId(term, from) };
        return _completed.AsSpan(0, records.Length);
    }

    private static bool TryTermInFrame(ReadOnlySpan<WalRecord> before, ulong index, out ulong term)
    {
        term = 0;
        for (var i = before.Length - 1; i >= 0; i--)
        {
            if (before[i].Id.Index == index && before[i].Kind is RecordKind.Entry or RecordKind.SnapshotMarker)
            {
                term = before[i].Id.Term;
                return true;
            }
        }

        return false;
    }

    /// <summary>The frame is written: publishes what it says.</summary>
    private void Remember(ReadOnlySpan<WalRecord> records, long frameOffset, ulong sequence)
    {
        var keeps = ulong.MaxValue;
        lock (_gate)
        {
            for (var i = 0; i < records.Length; i++)
            {
                ref readonly var record = ref records[i];
                _map.Apply(record, _activeId, frameOffset, i);
                switch (record.Kind)
                {
                    case RecordKind.Entry:
                        _activeIndexMax = Math.Max(_activeIndexMax, record.Id.Index);
                        Volatile.Write(ref _entries, _entries + 1);
                        break;
                    case RecordKind.Truncate:
                        keeps = Math.Min(keeps, record.Id.Index - 1);
                        break;
                    case RecordKind.SnapshotMarker:
                        keeps = 0;
                        _marker = new MarkerPlace(record.Id.Index, _activeId, sequence);
                        Volatile.Write(ref _beforeFirst, record.Id.Index);
                        break;
                    default:
                        break;
                }
            }
        }

        if (keeps == ulong.MaxValue)
        {
            Volatile.Write(ref _writtenSequence, sequence);
            Volatile.Write(ref _writtenIndex, _state.Last.Index);
            return;
        }

        // Not while a sync is about to say that the entries just made void are durable.
        lock (_syncGate)
        {
            Volatile.Write(ref _durableIndex, Math.Min(_durableIndex, keeps));
            Volatile.Write(ref _writtenSequence, sequence);
            Volatile.Write(ref _writtenIndex, _state.Last.Index);
        }
    }

    private void SyncLocked()
    {
        ThrowIfFailed();
        var index = Volatile.Read(ref _writtenIndex);
        var sequence = Volatile.Read(ref _writtenSequence);
        if (sequence == _durableSequence)
        {
            return;
        }

#if PLANTED_BUGS
        if (Planted.Is(Bug.SkipsSyncs) && sequence % 16 == 0)
        {
            Volatile.Write(ref _durableSequence, sequence);
            Volatile.Write(ref _durableIndex, index);
            return;
        }
#endif

        var started = Stopwatch.GetTimestamp();
        try
        {
            _active!.SyncData();
        }
        catch (Exception e)
        {
            Volatile.Write(ref _failure, e);
            throw;
        }

        var ticks = Stopwatch.GetTimestamp() - started;
        Volatile.Write(ref _syncs, _syncs + 1);
        Volatile.Write(ref _syncTicks, _syncTicks + ticks);
        Volatile.Write(ref _syncTicksMax, Math.Max(_syncTicksMax, ticks));
        Volatile.Write(ref _durableSequence, sequence);
        Volatile.Write(ref _durableIndex, index);
    }

    private void ThrowIfFailed()
    {
        if (Volatile.Read(ref _failure) is { } failure)
        {
            throw new IOException($"the log has failed before: {failure.Message}", failure);
        }
    }
}
