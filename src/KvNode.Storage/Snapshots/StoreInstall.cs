using System.Buffers;
using System.Runtime.ExceptionServices;

namespace KvNode.Storage.Snapshots;

/// <summary>
/// A state being built from the bytes of a <c>state.bin</c>, beside the store's, until <see cref="Commit"/> puts it in
/// that one's place.
/// </summary>
/// <remarks>
/// <para>Threads. One at a time calls, and it need not be the same: the bytes go through a bounded pipe to a thread of
/// this object's own, which alone writes to the new files. The store may be read and written meanwhile, but no batch may
/// be in progress during <see cref="Commit"/>.</para>
/// <para>Memory: about 20 MiB and twice the largest value, whatever the snapshot's size. Disk: the new state beside the
/// old one.</para>
/// <para>An <see cref="IOException"/> (damaged, not as the manifest says, disk full) ends this install; the store is as
/// before and another install may be begun. A <see cref="Native.SyncFailedException"/> must end the process.</para>
/// </remarks>
public sealed class StoreInstall : IDisposable
{
    // Bytes of records between two commits. Each commit syncs, so that no sync of gigabytes holds up the log's; and what
    // is not committed is LMDB's memory.
    private const long CommitBytes = 16L * 1024 * 1024;

    // The map must have room for what a transaction writes: records, and pages copied on the way to them.
    private const long MapSlackBytes = 4L * 1024 * 1024;

    private const long MapBytesFloor = 1L << 30;
    private const int ValueBytesFirst = 64 * 1024;

    private readonly Store _store;
    private readonly InstallManifest _manifest;
    private readonly string _directory;
    private readonly DiskOptions _diskOptions;
    private readonly BytePipe _pipe = new();
    private readonly Thread _loader;
    private byte[] _value = [];

    // Bytes of records in the transaction in progress.
    private long _pendingBytes;

    // Written by the loader, read by others after it has ended.
    private DiskKeyspace? _disk;
    private long _clockMs;
    private ExceptionDispatchInfo? _failure;

    private bool _completed;
    private bool _committed;
    private bool _disposed;

    private StoreInstall(Store store, InstallManifest manifest, string directory)
    {
        _store = store;
        _manifest = manifest;
        _directory = directory;
        _diskOptions = new DiskOptions { MapBytes = store.MapBytes, MapBytesFloor = Math.Min(store.MapBytes, MapBytesFloor) };
        _loader = new Thread(RunLoader) { IsBackground = true, Name = "kv-install" };
        _loader.Start();
    }

    /// <summary>For tests: called before each commit of the new files, by the thread that writes them.</summary>
    internal Action? CommitFailpoint { get; set; }

    /// <summary>
    /// Begins to build the state that will replace the store's, beside it. The present state is read and written meanwhile
    /// as ever. One install at a time.
    /// </summary>
    /// <exception cref="InvalidOperationException">Another install of this store has not been disposed.</exception>
    /// <exception cref="IOException">What an earlier one left cannot be deleted.</exception>
    public static StoreInstall Begin(Store store, InstallManifest manifest)
    {
        ArgumentNullException.ThrowIfNull(store);
        return new StoreInstall(store, manifest, store.BeginAside());
    }

    /// <summary>Takes the next bytes; waits while those before are being worked in.</summary>
    /// <exception cref="IOException">See the remarks.</exception>
    public void Write(ReadOnlySpan<byte> chunk)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_completed)
        {
            throw new InvalidOperationException("the snapshot has been completed");
        }

        if (!_pipe.TryWrite(chunk))
        {
            _loader.Join();
            ThrowIfFailed();
            throw new SnapshotFormatException("bytes after the end of the snapshot");
        }
    }

    /// <summary>No more bytes come: waits until everything is built, verified to the last checksum, and durable aside.</summary>
    /// <exception cref="IOException">See the remarks.</exception>
    public void Complete()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _completed = true;
        _pipe.End();
        _loader.Join();
        ThrowIfFailed();
    }

    /// <summary>
    /// Puts the new state in the place of the store's, on disk and for readers, durably. Completes first if need be.
    /// Waits for a flush that is under way, not for views: those that are open keep the old state.
    /// </summary>
    /// <exception cref="InvalidOperationException">The store is already further than the snapshot; nothing was changed.
    /// Or it was committed before.</exception>
    /// <remarks>Anything thrown once files are being renamed is also given to the store's Fatal: the next start finds one
    /// state or the other, but this process must not go on.</remarks>
    public void Commit()
    {
        Complete();
        if (_committed)
        {
            throw new InvalidOperationException("the snapshot has been committed");
        }

        _store.Swap(_manifest, _clockMs, _disk!);
        _committed = true;
    }

    /// <summary>Ends the install, and deletes what of it is not the store's.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        _pipe.Abandon();
        _loader.Join();
        if (!_committed)
        {
            _disk?.Dispose();
        }

        try
        {
            Directory.Delete(_directory, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not there yet, or not to be deleted: then the next install will say so, and the next start.
        }

        _store.EndAside();
    }

    private void ThrowIfFailed() => _failure?.Throw();

    private void RunLoader()
    {
        try
        {
            Load();
        }
        catch (Exception e)
        {
            _failure = ExceptionDispatchInfo.Capture(e);
        }
        finally
        {
            _pipe.Close();
            if (_value.Length > 0)
            {
                ArrayPool<byte>.Shared.Return(_value);
                _value = [];
            }
        }
    }

    private void Load()
    {
        using var reader = new SnapshotReader(_pipe);
        CheckHeader(reader.Header);
        _clockMs = reader.Header.ClockMs;
        _disk = DiskKeyspace.Open(_directory, _diskOptions);
        var writer = _disk.BeginWrite();
        try
        {
            while (reader.MoveNext())
            {
                LoadRecord(reader, writer);
            }

            // The snapshot is verified to its end. Only now does the new state say what it is.
            writer.SetState(
                new DiskState
                {
                    AppliedIndex = _manifest.Index,
                    AppliedTerm = _manifest.Term,
                    Count = _manifest.Count,
                    ClockMs = _clockMs,
                    InstalledIndex = _manifest.Index,
                    InstalledTerm = _manifest.Term,
                },
                _manifest.EngineState.Span);
            CommitFailpoint?.Invoke();
            writer.Commit();
        }
        finally
        {
            writer.Abort();
        }
    }

    private void CheckHeader(SnapshotHeader header)
    {
        if (header.Index != _manifest.Index || header.Term != _manifest.Term || header.Count != _manifest.Count)
        {
            throw new SnapshotFormatException(
                $"the snapshot is of entry {header.Index} of term {header.Term} with {header.Count} keys, not of entry "
                + $"{_manifest.Index} of term {_manifest.Term} with {_manifest.Count}, as announced");
        }

        if (!header.EngineState.Span.SequenceEqual(_manifest.EngineState.Span))
        {
            throw new SnapshotFormatException("the snapshot's engine state is not the one announced");
        }
    }

    private void LoadRecord(SnapshotReader reader, DiskWriter writer)
    {
        if (reader.Tag != ValueTag.String)
        {
            throw new SnapshotFormatException($"a value of kind 0x{(byte)reader.Tag:X2}: this program can only keep strings");
        }

        var recordBytes = reader.Key.Length + 1 + reader.ValueLength;
        if (_pendingBytes > 0 && _pendingBytes + recordBytes > CommitBytes)
        {
            CommitFailpoint?.Invoke();
            writer.Commit();
            _pendingBytes = 0;
            _ = _disk!.BeginWrite();
        }

        var length = ReadValue(reader);
        if (_pendingBytes == 0)
        {
            MakeRoomInMap(writer, recordBytes);
        }

        ReadOnlySpan<byte> tag = [(byte)ValueTag.String];
        writer.Put(reader.Key, tag, _value.AsSpan(0, length));
        _pendingBytes += recordBytes;
    }

    // A full map would end the transaction, and its records cannot be read a second time: so it grows before one begins.
    private void MakeRoomInMap(DiskWriter writer, long recordBytes)
    {
        var needed = (2 * Math.Max(CommitBytes, recordBytes)) + MapSlackBytes;
        var statistics = _disk!.Statistics();
        if (statistics.MapBytes - statistics.UsedBytes >= needed)
        {
            return;
        }

        writer.Abort();
        for (; statistics.MapBytes - statistics.UsedBytes < needed; statistics = _disk.Statistics())
        {
            _disk.GrowMap();
        }

        _ = _disk.BeginWrite();
    }

    // The buffer grows with the bytes that are there, not with those that are claimed.
    private int ReadValue(SnapshotReader reader)
    {
        var length = 0;
        while (length < reader.ValueLength)
        {
            if (length == _value.Length)
            {
                var larger = ArrayPool<byte>.Shared.Rent((int)Math.Max(ValueBytesFirst, Math.Min(length * 2L, Array.MaxLength)));
                _value.AsSpan(0, length).CopyTo(larger);
                if (_value.Length > 0)
                {
                    ArrayPool<byte>.Shared.Return(_value);
                }

                _value = larger;
            }

            length += reader.ReadValue(_value.AsSpan(length));
        }

        return length;
    }
}
