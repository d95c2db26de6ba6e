namespace KvNode.Raft.Wal;

/// <summary>
/// Keeps the next segment ready, filled with real zeros that are on disk, so that a roll never waits; takes back
/// segments that are not needed any more.
/// </summary>
/// <remarks>
/// Zeros are written and not merely allocated because a sync that must also journal "these blocks now count" costs a
/// second flush. A segment gets its name only when it is whole and synced, and an old segment loses its name, durably,
/// before its bytes are touched. All members may be called from any thread; <see cref="Take"/> by one only.
/// </remarks>
internal sealed class SegmentPool : IDisposable
{
    private const int ZeroChunkBytes = 1 << 20;
    private const int SyncEveryBytes = 8 << 20;

    private static readonly byte[] Zeros = new byte[ZeroChunkBytes];

    private readonly IDisk _disk;
    private readonly WalOptions _options;
    private readonly object _gate = new();
    private readonly Queue<(ulong Id, long Bytes)> _retired = new();
    private readonly SortedDictionary<ulong, long> _ready = [];
    private readonly Queue<ulong> _spares = new();
    private readonly Thread? _worker;
    private ulong _wanted;
    private IOException? _failure;
    private Exception? _fatal;
    private volatile bool _stopping;
    private long _bytes;

    public SegmentPool(IDisk disk, WalOptions options)
    {
        Invariant.Check(options.SegmentBytes % WalFormat.SectorBytes == 0);
        Invariant.Check(options.SegmentBytes >= 2 * WalFormat.SectorBytes);
        _disk = disk;
        _options = options;
        if (options.Background)
        {
            _worker = new Thread(Run)
            {
                Name = "wal-prepare",
                IsBackground = true,
                Priority = ThreadPriority.BelowNormal,
            };
            _worker.Start();
        }
    }

    /// <summary>Bytes in segments that are ready or spare.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    /// <summary>Takes over a clean blank segment found at start.</summary>
    public void AddReady(ulong id, long bytes)
    {
        lock (_gate)
        {
            _ready.Add(id, bytes);
            _bytes += bytes;
        }
    }

    /// <summary>Takes over a spare found at start; it is always of the ordinary size.</summary>
    public void AddSpare(ulong id)
    {
        lock (_gate)
        {
            _spares.Enqueue(id);
            _bytes += _options.SegmentBytes;
        }
    }

    /// <summary>Asks for a segment without waiting for it.</summary>
    public void Prepare(ulong id)
    {
        lock (_gate)
        {
            if (_ready.ContainsKey(id) || _wanted == id)
            {
                return;
            }

            _wanted = id;
            _failure = null;
            Monitor.PulseAll(_gate);
        }

        if (_worker is null)
        {
            RunPending();
        }
    }

    /// <summary>Hands out a blank segment, waiting for it if need be.</summary>
    /// <exception cref="DiskFullException">There is no room for one. Ask again later.</exception>
    public (IDiskFile File, long Bytes) Take(ulong id)
    {
        Prepare(id);
        lock (_gate)
        {
            long bytes;
            while (!_ready.TryGetValue(id, out bytes))
            {
                ThrowIfBrokenLocked();
                ObjectDisposedException.ThrowIf(_stopping, this);
                if (_failure is { } failure)
                {
                    throw new DiskFullException(failure.Message, failure);
                }

                Invariant.Check(_worker is not null);
                _ = Monitor.Wait(_gate);
            }

            var file = _disk.Open(WalFormat.SegmentName(id));
            _ = _ready.Remove(id);
            _bytes -= bytes;
            return (file, bytes);
        }
    }

    /// <summary>Gives back a segment whose entries are not needed any more.</summary>
    public void Retire(ulong id, long bytes)
    {
        lock (_gate)
        {
            _retired.Enqueue((id, bytes));
            Monitor.PulseAll(_gate);
        }

        if (_worker is null)
        {
            RunPending();
        }
    }

    /// <summary>Reports what the worker could not do and nobody waits for.</summary>
    public void ThrowIfBroken()
    {
        if (Volatile.Read(ref _fatal) is not null)
        {
            lock (_gate)
            {
                ThrowIfBrokenLocked();
            }
        }
    }

    /// <summary>Stops the worker; work half done is found and finished or removed at the next start.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
        }

        _worker?.Join();
    }

    /// <summary>Overwrites a range with zeros and syncs it.</summary>
    public static void WriteZeros(IDiskFile file, long from, long to) => WriteZeros(file, from, to, static () => false);

    private static bool WriteZeros(IDiskFile file, long from, long to, Func<bool> stopping)
    {
        var unsynced = 0L;
        while (from < to)
        {
            if (stopping())
            {
                return false;
            }

            var count = (int)Math.Min(ZeroChunkBytes, to - from);
            file.Write(from, Zeros.AsSpan(0, count));
            from += count;
            unsynced += count;
            if (unsynced >= SyncEveryBytes)
            {
                // In portions, so that the log's own syncs do not queue behind one large one.
                file.SyncData();
                unsynced = 0;
            }
        }

        file.SyncData();
        return true;
    }

    private void ThrowIfBrokenLocked()
    {
        if (_fatal is not null)
        {
            throw new IOException($"preparing log segments failed: {_fatal.Message}", _fatal);
        }
    }

    private void Run()
    {
        while (true)
        {
            lock (_gate)
            {
                while (!_stopping && (_fatal is not null || (_retired.Count == 0 && _wanted == 0)))
                {
                    _ = Monitor.Wait(_gate);
                }

                if (_stopping)
                {
                    return;
                }
            }

            RunPending();
        }
    }

    /// <summary>Does all that was asked for; keeps the reason where it cannot.</summary>
    private void RunPending()
    {
        if (Volatile.Read(ref _fatal) is not null)
        {
            // A segment that could not be removed stays, so those after it must stay too: no gaps.
            return;
        }

        try
        {
            while (TryNextRetired(out var id, out var bytes))
            {
                RemoveOrKeep(id, bytes);
            }

            if (Volatile.Read(ref _wanted) is var wanted and not 0 && !_stopping)
            {
                MakeWanted(wanted);
            }
        }
        catch (Exception e) when (_worker is not null || e is IOException or UnauthorizedAccessException)
        {
            lock (_gate)
            {
                _wanted = 0;
                _fatal = e;
                Monitor.PulseAll(_gate);
            }
        }
    }

    private bool TryNextRetired(out ulong id, out long bytes)
    {
        lock (_gate)
        {
            var any = _retired.TryDequeue(out var next) && !_stopping;
            (id, bytes) = next;
            return any;
        }
    }

    private void RemoveOrKeep(ulong id, long bytes)
    {
        var keep = bytes == _options.SegmentBytes && _spares.Count < _options.SparesMax;
        if (keep)
        {
            _disk.Rename(WalFormat.SegmentName(id), WalFormat.SpareName(id));
        }
        else
        {
            _disk.Delete(WalFormat.SegmentName(id));
        }

        // One by one, oldest first: a power loss must not leave a gap in the middle of the log.
        _disk.SyncDirectory();
        if (keep)
        {
            AddSpare(id);
        }
    }

    private void MakeWanted(ulong id)
    {
        IOException? failure = null;
        var bytes = 0L;
        try
        {
            bytes = Make(id);
        }
        catch (IOException e) when (DiskFullException.ExplainsDraft(e))
        {
            failure = e;
        }

        lock (_gate)
        {
            _wanted = 0;
            _failure = failure;
            if (failure is null && bytes > 0)
            {
                _ready.Add(id, bytes);
                _bytes += bytes;
            }

            Monitor.PulseAll(_gate);
        }
    }

    /// <returns>Its size; 0 when the pool is being closed.</returns>
    private long Make(ulong id)
    {
        var bytes = _options.SegmentBytes;
        string source;
        IDiskFile file;
        if (TryTakeSpare(out var spare))
        {
            source = WalFormat.SpareName(spare);
            file = _disk.Open(source);
        }
        else
        {
            bytes = ChooseBytes();
            source = WalFormat.DraftName(id);
            file = _disk.Create(source);
        }

        try
        {
            using (file)
            {
                if (!WriteZeros(file, 0, bytes, () => _stopping))
                {
                    return 0;
                }
            }

            _disk.Rename(source, WalFormat.SegmentName(id));
        }
        catch
        {
            // What it has taken of a full disk goes back.
            TryDelete(source);
            throw;
        }

        _disk.SyncDirectory();
        return bytes;
    }

    private void TryDelete(string name)
    {
        try
        {
            _disk.Delete(name);
        }
        catch (IOException)
        {
            // The error on its way says what is wrong; the next start removes the file.
        }
    }

    private bool TryTakeSpare(out ulong spare)
    {
        lock (_gate)
        {
            var any = _spares.TryDequeue(out spare);
            _bytes -= any ? _options.SegmentBytes : 0;
            return any;
        }
    }

    /// <summary>Smaller on a nearly full disk, so that a small disk can be used at all.</summary>
    private long ChooseBytes()
    {
        var free = _disk.FreeBytes;
        var bytes = _options.SegmentBytes;
        while (bytes > free / 4 && bytes / 2 >= _options.SegmentBytesMin)
        {
            bytes = WalFormat.RoundUpToSector(bytes / 2);
        }

        return bytes <= free
            ? bytes
            : throw DiskFullException.ForSegment(bytes, free);
    }
}
