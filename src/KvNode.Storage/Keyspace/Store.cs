namespace KvNode.Storage;

/// <summary>
/// The ordered keyspace: a write buffer in memory in front of LMDB, seen by readers as one.
/// </summary>
/// <remarks>
/// <para>Threads. One thread at a time applies (<see cref="BeginBatch"/> ... <see cref="Publish"/>). Any thread may open
/// views; they see whole batches only. One thread of the store's own writes LMDB.</para>
/// <para>Layers, newest first: the active buffer, the sealed buffer that is being flushed (or none), LMDB. A view pins
/// the three together. The flush thread commits the sealed buffer to LMDB first and takes it out of the layers
/// afterwards, so a view may find a key in both, never in neither.</para>
/// <para>Replacement. An installed snapshot takes the place of all layers at once (Store.Install.cs). A view keeps the LMDB
/// files it began with, which are closed when the last such view ends.</para>
/// <para>Durability. Nothing here is durable before a flush; the log is. A flush commits the data and the index and
/// term it covers in one LMDB transaction, so replay starts exactly after what LMDB holds.</para>
/// </remarks>
public sealed partial class Store : IDisposable
{
    private const string DiskFolder = "lmdb";

    private readonly StoreOptions _options;
    private readonly string _directory;
    private readonly DirectoryLock _lock;

    // Held by the applying thread from BeginBatch to Publish, and by the flush thread while it seals: a buffer is only
    // ever sealed between batches.
    private readonly Lock _batchLock = new();

    // Guards changes of _layers and the flush thread's state; waited on with Monitor, hence a plain object.
    private readonly object _gate = new();

    // One view per thread is kept for the next reader on that thread.
    [ThreadStatic]
    private static StoreReadView? t_view;

    private readonly StoreWriteView _writer;
    private readonly Thread _flushThread;

    private volatile Layers _layers;

    // Published state, readable without a lock: odd version = being changed (a sequence lock with one writer).
    private long _publishedVersion;
    private PublishedState _published;

    // The engine's bytes as of _published. Under _batchLock, so that reading them with the state they belong to is possible.
    private readonly ByteBuffer _publishedEngine = new();

    /// <summary>Reads every record of a stopped store. The caller holds the directory's <see cref="DirectoryLock"/>.</summary>
    /// <param name="directory">As given to <see cref="Open"/>.</param>
    /// <exception cref="NativeLibraryMissingException">No liblmdb.</exception>
    public static DiskVerifyReport Verify(string directory) => DiskVerifier.Verify(Path.Combine(directory, DiskFolder));

    public static Store Open(string directory, StoreOptions options)
    {
        NativeLibraries.Require();
        var directoryLock = DirectoryLock.Acquire(directory);
        try
        {
            DeleteAside(directory);
            var disk = DiskKeyspace.Open(Path.Combine(directory, DiskFolder), new DiskOptions { MapBytes = options.MapBytes });
            return new Store(directory, options, directoryLock, disk);
        }
        catch
        {
            directoryLock.Dispose();
            throw;
        }
    }

    private Store(string directory, StoreOptions options, DirectoryLock directoryLock, DiskKeyspace disk)
    {
        _directory = directory;
        _options = options;
        _lock = directoryLock;
        var reader = disk.RentReader();
        var state = reader.State;
        _publishedEngine.Set(reader.EngineState);
        disk.ReturnReader(reader);
        _published = new PublishedState(0, state.AppliedIndex, state.AppliedTerm, state.Count, state.ClockMs);
        _durable = _sealedState = new DurableState(_published, _publishedEngine.ToArray(), state.InstalledIndex, state.InstalledTerm);
        _layers = new Layers(new WriteBuffer(clearsBelow: false), Sealed: null, disk);
        _writer = new StoreWriteView(this);
        _flushThread = new Thread(RunFlushes) { IsBackground = true, Name = "kv-flush" };
        _flushThread.Start();
    }

    /// <summary>Index of the last entry that LMDB holds durably.</summary>
    public ulong DurableIndex => Durable.State.Index;

    public ulong DurableTerm => Durable.State.Term;

    /// <summary>What LMDB holds durably, its parts of one moment.</summary>
    public StoreDurable DurablePosition
    {
        get
        {
            var durable = Durable;
            return new StoreDurable
            {
                Index = durable.State.Index,
                Term = durable.State.Term,
                EngineState = durable.EngineState,
                InstalledIndex = durable.InstalledIndex,
                InstalledTerm = durable.InstalledTerm,
            };
        }
    }

    /// <summary>The state's own clock: the greatest leader time published, milliseconds since the Unix epoch.</summary>
    public long ClockMs => ReadPublished().ClockMs;

    /// <summary>Index of the last published batch.</summary>
    public ulong AppliedIndex => ReadPublished().Index;

    /// <summary>
    /// Begins a batch; the view it returns writes and reads the batch's own writes. Nobody else sees them before
    /// <see cref="Publish"/>, which must follow on the same thread. Blocks while both buffer generations are full.
    /// </summary>
    public WriteView BeginBatch()
    {
        WaitForRoom();
        _batchLock.Enter();
        var layers = PinLayers();
        _writer.Begin(layers, layers.Disk.RentReader(), _published);
        return _writer;
    }

    /// <summary>Makes the batch visible, atomically, as the state at <paramref name="index"/>.</summary>
    /// <param name="clockMs">The state's own clock after the batch: milliseconds since the Unix epoch, never going back.</param>
    /// <param name="engineState">The engine's own bytes as of this index, which become durable together with it. Copied; at
    /// most <see cref="StoreLimits.EngineStateBytesMax"/>.</param>
    public void Publish(ulong index, ulong term, long clockMs, ReadOnlySpan<byte> engineState = default)
    {
        Invariant.Check(index > _published.Index, "the applied index goes up with every batch", index, _published.Index);
        Invariant.Check(clockMs >= _published.ClockMs, "the state's clock does not go back");
        Invariant.Check(engineState.Length <= StoreLimits.EngineStateBytesMax, "the engine's state is small");
        var target = _writer.Target;
        var state = new PublishedState(_writer.Sequence, index, term, _writer.Count, clockMs);
        _writer.End();
        SetPublished(state, target);
        _publishedEngine.Set(engineState);
        var full = target.Bytes >= _options.WriteBufferBytes;
        _batchLock.Exit();
        if (full)
        {
            RequestSeal();
        }
    }

    /// <summary>Opens a consistent view of the last published state. Dispose it soon: it pins memory and LMDB's pages.</summary>
    public StoreReadView OpenView()
    {
        var view = t_view is { } cached && cached.BelongsTo(this) ? cached : new StoreReadView(this);
        t_view = null;
        var spin = default(SpinWait);
        while (true)
        {
            var version = Volatile.Read(ref _publishedVersion);
            var layers = PinLayers();
            var reader = RentReader(layers);
            var state = _published;
            Volatile.ReadBarrier();
            if ((version & 1) == 0 && version == Volatile.Read(ref _publishedVersion) && ReferenceEquals(layers, _layers) &&
                reader is not null)
            {
                // Nothing was published and no layer came or went meanwhile: LMDB holds nothing of the active buffer,
                // and the state is the one these layers show.
                view.Open(layers, reader, state);
                return view;
            }

            if (reader is not null)
            {
                layers.Disk.ReturnReader(reader);
            }

            layers.Unpin();
            spin.SpinOnce();
        }
    }

    /// <summary>As <see cref="OpenView()"/>, with the engine's own bytes as of that state. Waits for the batch in
    /// progress.</summary>
    public StoreReadView OpenView(out byte[] engineState)
    {
        lock (_batchLock)
        {
            engineState = _publishedEngine.ToArray();
            return OpenView();
        }
    }

    /// <summary>Flushes what is published and returns when it is durable in LMDB.</summary>
    /// <exception cref="IOException">The disk is full.</exception>
    public void Checkpoint() => FlushAndWait();

    public StoreStatus Status
    {
        get
        {
            var layers = _layers;
            var published = ReadPublished();
            var disk = DiskStatistics();
            var durable = Durable;
            lock (_gate)
            {
                return new StoreStatus
                {
                    Keys = published.Count,
                    AppliedIndex = published.Index,
                    AppliedTerm = published.Term,
                    DurableIndex = durable.State.Index,
                    BufferBytes = layers.Active.Bytes + (layers.Sealed?.Bytes ?? 0),
                    BufferKeys = layers.Active.Keys + (layers.Sealed?.Keys ?? 0),
                    FileBytes = disk.FileBytes,
                    MapBytes = disk.MapBytes,
                    Flushes = _flushes,
                    FlushMicroseconds = _flushMicroseconds,
                    LastFlushUnixMs = _lastFlushUnixMs,
                    FlushError = _flushError,
                    Readers = disk.ReadersInUse,
                };
            }
        }
    }

    /// <summary>Flushes everything and closes. The views must be gone, and an install that was begun disposed.</summary>
    /// <exception cref="InvalidOperationException">They are not. The files then stay open.</exception>
    public void Dispose()
    {
        RefuseWhileInstalling();
        if (!StopFlushing())
        {
            return;
        }

        var layers = _layers;
        layers.Active.Release();
        layers.Sealed?.Release();
        CloseReplaced();
        layers.Disk.Dispose();
        _lock.Dispose();
    }

    /// <summary>Where writes go outside a batch that cleared everything.</summary>
    internal WriteBuffer ActiveBuffer => _layers.Active;

    internal void ReturnView(StoreReadView view) => t_view = view;

    private Layers PinLayers()
    {
        while (true)
        {
            var layers = _layers;
            if (layers.TryPin())
            {
                return layers;
            }

            // Taken out of the layers and freed between the two lines: there is a newer set already.
        }
    }

    // Null when the layers are no longer the store's, which the caller then sees for itself.
    private static DiskReader? RentReader(Layers layers)
    {
        try
        {
            return layers.Disk.TryRentReader();
        }
        catch
        {
            layers.Unpin();
            throw;
        }
    }

    private DiskStatistics DiskStatistics()
    {
        while (true)
        {
            var disk = _layers.Disk;
            try
            {
                return disk.Statistics();
            }
            catch (ObjectDisposedException) when (!ReferenceEquals(disk, _layers.Disk))
            {
                // Replaced between the two lines.
            }
        }
    }

    // Single writer: whoever holds _batchLock.
    private void SetPublished(in PublishedState state, WriteBuffer target)
    {
        Volatile.Write(ref _publishedVersion, _publishedVersion + 1);
        Volatile.WriteBarrier();
        var active = _layers.Active;
        if (!ReferenceEquals(target, active))
        {
            // The batch cleared everything: its fresh buffer hides all below, and what the old one held is gone.
            lock (_gate)
            {
                _layers = _layers with { Active = target };
            }

            active.Release();
        }

        _published = state;
        Volatile.Write(ref _publishedVersion, _publishedVersion + 1);
    }

    private PublishedState ReadPublished()
    {
        var spin = default(SpinWait);
        while (true)
        {
            var version = Volatile.Read(ref _publishedVersion);
            var state = _published;
            Volatile.ReadBarrier();
            if ((version & 1) == 0 && version == Volatile.Read(ref _publishedVersion))
            {
                return state;
            }

            spin.SpinOnce();
        }
    }
}

/// <summary>What a reader sees: everything up to a sequence number, which is the state at a log position.</summary>
internal readonly record struct PublishedState(ulong Sequence, ulong Index, ulong Term, long Count, long ClockMs);

/// <summary>What LMDB holds: a published state, the engine's bytes as of it, and where a snapshot was installed last.</summary>
internal sealed record DurableState(PublishedState State, byte[] EngineState, ulong InstalledIndex, ulong InstalledTerm);

/// <summary>What LMDB holds durably.</summary>
public readonly record struct StoreDurable
{
    /// <summary>Index and term of the last log entry in it.</summary>
    public required ulong Index { get; init; }
    public required ulong Term { get; init; }

    /// <summary>The engine's own bytes as of that entry; empty when there are none. They do not change.</summary>
    public required ReadOnlyMemory<byte> EngineState { get; init; }

    /// <summary>The last entry of the last snapshot that was installed; 0 when there was none.</summary>
    public required ulong InstalledIndex { get; init; }
    public required ulong InstalledTerm { get; init; }
}

/// <summary>Bytes that are often replaced and seldom grow.</summary>
internal sealed class ByteBuffer
{
    private byte[] _bytes = [];
    private int _length;

    public void Set(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > _bytes.Length)
        {
            _bytes = new byte[Math.Max(bytes.Length, 2 * _bytes.Length)];
        }

        bytes.CopyTo(_bytes);
        _length = bytes.Length;
    }

    public byte[] ToArray() => _bytes.AsSpan(0, _length).ToArray();
}

/// <summary>The layers of one moment, newest first. Immutable; replaced as a whole.</summary>
internal sealed record Layers(WriteBuffer Active, WriteBuffer? Sealed, DiskKeyspace Disk)
{
    /// <summary>Keeps the buffers' memory; false when one of them is already gone. A reader rented from the disk keeps
    /// that.</summary>
    public bool TryPin()
    {
        if (!Active.TryAddReference())
        {
            return false;
        }

        if (Sealed is null || Sealed.TryAddReference())
        {
            return true;
        }

        Active.Release();
        return false;
    }

    public void Unpin()
    {
        Active.Release();
        Sealed?.Release();
    }
}
