using System.Diagnostics;
using KvNode.Native;

namespace KvNode.Raft.Wal;

/// <summary>Counters of a log; each is true by itself.</summary>
internal readonly record struct WalMetrics(
    long Entries, long Syncs, long SyncMicroseconds, long SyncMicrosecondsMax, long BytesWritten);

/// <summary>
/// The log on disk: a chain of frames in segment files.
/// </summary>
/// <remarks>
/// One thread appends (<see cref="Append"/>, <see cref="Reserve"/>). <see cref="Sync"/>, <see cref="EnsureDurable"/>,
/// <see cref="Retire"/> and the properties, where they do not say otherwise, may be used from any thread. Only the
/// active segment ever has bytes
/// that are not synced: a roll syncs first. After an exception other than <see cref="DiskFullException"/> the log
/// accepts nothing more.
/// </remarks>
internal sealed class WriteAheadLog : IDisposable
{
    private readonly record struct Sealed(ulong Id, long Bytes, EntryId Last);

    private readonly SegmentPool _pool;
    private readonly NativeBuffer _buffer = new();

    // Segments before the active one. Its lock also covers _activeFirstSequence.
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
    private EntryId _last;
    private HardState _hardState;

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
        _last = image.Last;
        _hardState = image.HardState;
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
    public EntryId Last => _last;

    /// <summary>For the appending thread.</summary>
    public HardState HardState => _hardState;

    /// <summary>Number of the segment that is written to.</summary>
    public ulong ActiveSegment => Interlocked.Read(ref _activeId);

    /// <summary>Index of the first entry still in the log.</summary>
    public ulong FirstIndex => Volatile.Read(ref _beforeFirst) + 1;

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
    /// Feeds the entries after this one, as they were when the log was opened, to a sink in large spans.
    /// </summary>
    /// <exception cref="LogCorruptException">The log does not continue this entry.</exception>
    public void Replay(EntryId after, ReplaySink sink) => WalReplay.RunAfter(Disk, Image, after, sink);

    /// <summary>
    /// Writes the records as one frame; not synced. Entries must continue the log.
    /// </summary>
    /// <exception cref="DiskFullException">Nothing was written, and nothing of it can ever come back.</exception>
    public void Append(ReadOnlySpan<WalRecord> records)
    {
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
        Remember(records);
        Volatile.Write(ref _writtenSequence, header.Sequence);
        Volatile.Write(ref _writtenIndex, _last.Index);
        Volatile.Write(ref _bytesWritten, _bytesWritten + buffer.Length);
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
    /// Gives up whole segments whose entries all have an index up to this one. The last segment with a durable frame
    /// always stays: it is what tells where the log stands.
    /// </summary>
    /// <returns>Segments given up.</returns>
    public int Retire(ulong index)
    {
        lock (_sealed)
        {
            var keep = Volatile.Read(ref _durableSequence) < _activeFirstSequence ? 1 : 0;
            var count = 0;
            while (_sealed.Count > keep && _sealed.Peek().Last.Index <= index)
            {
                var oldest = _sealed.Dequeue();
                Volatile.Write(ref _beforeFirst, oldest.Last.Index);
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
            _sealed.Enqueue(new Sealed(segment.Id, segment.Bytes, segment.Last));
            _sealedBytes += segment.Bytes;
        }

        if (Image.Used.Count == 0)
        {
            Activate(1, before: null);
            return;
        }

        var last = Image.Used[^1];
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

        lock (_sealed)
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
        _blankHeader = new SegmentHeader(_logId, id, _nextSequence, _last, _hardState, _chain);
        _pool.Prepare(id + 1);
    }

    private void Roll()
    {
        // Even where the durability level asks for no sync: recovery relies on it, and it is once per segment.
        Sync();
        Activate(_activeId + 1, new Sealed(_activeId, _capacity, _last));
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

    private void Remember(ReadOnlySpan<WalRecord> records)
    {
        foreach (ref readonly var record in records)
        {
            if (record.Kind == RecordKind.HardState)
            {
                _hardState = new HardState(record.Id.Term, record.Id.Index);
                continue;
            }

            Invariant.Check(record.Id.Index == _last.Index + 1);
            Invariant.Check(record.Id.Term >= _last.Term);
            _last = record.Id;
            Volatile.Write(ref _entries, _entries + 1);
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
