using System.Diagnostics.CodeAnalysis;
using KvNode.Native;
using KvNode.Storage.Lmdb;
using Microsoft.Win32.SafeHandles;

namespace KvNode.Storage;

/// <summary>
/// The ordered keyspace on disk: one LMDB environment, one writer, pooled readers. Keys of 0 to 65,536 bytes in exact byte
/// order, values as opaque bytes whose first is the tag.
/// </summary>
/// <remarks>
/// <para>Threads: <see cref="BeginWrite"/>, what it returns, and <see cref="GrowMap"/> belong to one dedicated thread.
/// Readers may be rented by any thread, and used by one at a time. <see cref="Dispose"/>, <see cref="Retire"/> and
/// <see cref="MovedTo"/> may overlap nothing of these but readers.</para>
/// <para>Durability: every commit is LMDB's default, data synced, then the meta page written synchronously. What a
/// commit returned for survives power loss.</para>
/// </remarks>
internal sealed class DiskKeyspace : IDisposable
{
    private const string DataFile = "data.mdb";

    private const int InputOutput = 5;
    private const int NoMemory = 12;
    private const int NoSpace = 28;
    private const int QuotaExceeded = 122;

    // LMDB writes at most 64 pages at once, or one long value: after a short write less than that is free. The margin
    // is for what others free or take meanwhile.
    private const long FreeBytesWhenFull = 16L << 20;

    private string _directory;
    private readonly DiskOptions _options;
    private readonly DiskReaderPool _pool;
    private readonly DiskWriter _writer;
    private readonly SafeFileHandle _dataFile;
    private LmdbEnvironment _environment;
    private DiskDatabases _databases;
    private bool _disposed;

    private DiskKeyspace(string directory, DiskOptions options, LmdbEnvironment environment, in DiskDatabases databases)
    {
        _directory = directory;
        _options = options;
        _environment = environment;
        _databases = databases;
        _pool = new DiskReaderPool(options.ReadersMax, CreateReader);
        _writer = new DiskWriter(this);

        // Opened before anything is written, so that it is told of every failed writeback from now on.
        _dataFile = File.OpenHandle(DataPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
    }

    private string DataPath => Path.Combine(_directory, DataFile);

    /// <summary>Opens or creates the keyspace in a directory that no other process uses (see
    /// <see cref="DirectoryLock"/>).</summary>
    /// <exception cref="NativeLibraryMissingException">No liblmdb.</exception>
    /// <exception cref="DiskFormatException">Not ours, or a format this program does not know. Nothing was changed.</exception>
    /// <exception cref="LmdbException">What LMDB or the system says of the files.</exception>
    public static DiskKeyspace Open(string directory, DiskOptions options)
    {
        NativeLibraries.RequireLmdb();
        _ = Directory.CreateDirectory(directory);
        CreateIfMissing(directory, options);
        var environment = OpenEnvironment(directory, options, options.MapBytes);
        try
        {
            if (environment.KeyBytesMax != Layout.LinkBytes)
            {
                throw new DiskFormatException($"this LMDB was built for keys of {environment.KeyBytesMax} bytes; the data " +
                    $"format needs {Layout.LinkBytes}");
            }

            var databases = DiskDatabases.Open(environment, directory);

            // LMDB syncs its files, not the directory that names them.
            Libc.SyncDirectory(directory);
            return new DiskKeyspace(directory, options, environment, databases);
        }
        catch
        {
            environment.Dispose();
            throw;
        }
    }

    /// <summary>Begins the write transaction. See <see cref="DiskWriter"/>.</summary>
    public DiskWriter BeginWrite()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_writer.IsActive)
        {
            throw new InvalidOperationException("the disk writer's transaction is not ended");
        }

        _writer.Begin(_environment.BeginWrite(), _databases);
        return _writer;
    }

    /// <summary>A reader on what was committed last. Give it back with <see cref="ReturnReader"/>.</summary>
    /// <exception cref="ReadersExhaustedException"><see cref="DiskOptions.ReadersMax"/> are rented.</exception>
    /// <exception cref="ObjectDisposedException">Closed, or failed to reopen after growing the map.</exception>
    /// <remarks>Waits only while the map grows. A thread that already holds a reader may then wait for as long as
    /// <see cref="DiskOptions.GrowWaitMax"/>, until growing gives up.</remarks>
    public DiskReader RentReader() =>
        _pool.TryRent() ?? throw new ObjectDisposedException(nameof(DiskKeyspace), "another state has taken this one's place");

    /// <summary>As <see cref="RentReader"/>; null when the keyspace is retired.</summary>
    public DiskReader? TryRentReader() => _pool.TryRent();

    public void ReturnReader(DiskReader reader) => _pool.Return(reader);

    /// <summary>Doubles the map after a <see cref="MapFullException"/>. No write transaction may be open.</summary>
    /// <exception cref="DiskFullException">Readers were not returned within <see cref="DiskOptions.GrowWaitMax"/>, or the
    /// address space does not allow more. Everything is as before; try again later.</exception>
    /// <exception cref="LmdbException">The environment could not be opened again at all; stop the node.</exception>
    /// <remarks>The environment is closed and opened again rather than resized in place: mdb_env_set_mapsize unmaps first,
    /// and when the larger map is then refused (ulimit -v), the open environment is left without any. Reopening can fall
    /// back to the old size.</remarks>
    public void GrowMap()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_writer.IsActive)
        {
            throw new InvalidOperationException("the map cannot grow while the write transaction is open");
        }

        if (!_pool.TryTakeAll(_options.GrowWaitMax))
        {
            throw new DiskFullException(LmdbNative.MDB_MAP_FULL, "growing the map",
                $"readers were not returned within {_options.GrowWaitMax.TotalSeconds:0.#} s");
        }

        var before = _environment.MapBytes;
        try
        {
            _environment.Dispose();
            _environment = LmdbEnvironment.Open(
                _directory, LmdbNative.MDB_NOTLS, before * 2, before, _options.ReadersMax);
            _databases = DiskDatabases.Open(_environment, _directory);
        }
        catch
        {
            _pool.CloseForEver("the data directory could not be opened again after the map was to grow");
            throw;
        }

        _pool.Reopen();
        if (_environment.MapBytes <= before)
        {
            throw new DiskFullException(NoMemory, "growing the map",
                $"the address space allows no more than {before} bytes (ulimit -v)");
        }
    }

    /// <summary>Takes numbers from LMDB and the file system; a few microseconds.</summary>
    /// <remarks>Any thread. Rents a reader for a moment, which is what keeps the environment open meanwhile; errors as for
    /// <see cref="RentReader"/>.</remarks>
    public DiskStatistics Statistics()
    {
        var reader = RentReader();
        try
        {
            return new DiskStatistics
            {
                FileBytes = RandomAccess.GetLength(_dataFile),
                UsedBytes = _environment.UsedBytes,
                MapBytes = _environment.MapBytes,
                Records = reader.Records,
                ReadersInUse = _pool.InUse - 1,
            };
        }
        finally
        {
            _pool.Return(reader);
        }
    }

    /// <summary>Closes the files. All readers must be returned and no write transaction open.</summary>
    /// <exception cref="InvalidOperationException">They are not, even after <see cref="DiskOptions.GrowWaitMax"/>. Then the
    /// files stay open: unmapping under a reader would end the process.</exception>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        if (_writer.IsActive)
        {
            throw new InvalidOperationException("the disk writer's transaction is not ended");
        }

        if (!_pool.TryTakeAll(_options.GrowWaitMax))
        {
            throw new InvalidOperationException($"{_pool.InUse} disk readers are not returned");
        }

        _disposed = true;
        _pool.CloseForEver("the store is closed");
        _environment.Dispose();
        _dataFile.Dispose();
    }

    /// <summary>The files have been renamed into another directory while open.</summary>
    public void MovedTo(string directory)
    {
        if (_writer.IsActive)
        {
            throw new InvalidOperationException("the files moved while the write transaction was open");
        }

        _directory = directory;
    }

    /// <summary>Lets no new reader in, and closes the files when the last one has been returned, on a thread of the pool:
    /// unmapping and the freeing of an unlinked file may take long. No write transaction may be open.</summary>
    /// <returns>Ends when the files are closed.</returns>
    public Task Retire()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_writer.IsActive)
        {
            throw new InvalidOperationException("the disk writer's transaction is not ended");
        }

        _disposed = true;
        var closed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _pool.Retire(() => _ = ThreadPool.UnsafeQueueUserWorkItem(
            done =>
            {
                _environment.Dispose();
                _dataFile.Dispose();
                done.SetResult();
            },
            closed,
            preferLocal: false));
        return closed.Task;
    }

    /// <summary>Says what a failure before the commit means. LMDB writes then only when a transaction outgrows its list
    /// of changed pages, and syncs nothing.</summary>
    [DoesNotReturn]
    internal void ThrowWriteFailed(int error, string operation)
    {
        if (IsDiskFull(error))
        {
            throw new DiskFullException(error, operation, "no space left for the data file");
        }

        LmdbException.Throw(error, operation);
    }

    /// <summary>Says what a failed commit means; the transaction is gone in every case.</summary>
    /// <exception cref="SyncFailedException">A sync failed. Fatal.</exception>
    /// <remarks>
    /// mdb_txn_commit writes the pages, syncs them, writes the meta page, and returns one errno for all three:
    /// <list type="bullet">
    /// <item>A refused write (ENOSPC, EDQUOT, or a short write, reported as EIO) lost nothing: the pages it would have
    /// filled belong to nobody. Trying again is right.</item>
    /// <item>A failed sync is fatal, whatever its errno: on a full loop device fdatasync answers ENOSPC too. The kernel
    /// reports a failed writeback once to every open file description, so a sync of our own on a descriptor opened
    /// beforehand still hears of the one LMDB was told.</item>
    /// <item>A failed meta page is fatal: LMDB answers MDB_PANIC to every later begin.</item>
    /// </list>
    /// What is left, EIO with space on the disk, is an error we cannot place, and fatal. Were a failed sync ever taken for
    /// a full disk, nothing would be lost all the same: what was committed before was synced before, and the next attempt
    /// writes all its pages anew.
    /// </remarks>
    [DoesNotReturn]
    internal void ThrowCommitFailed(int error)
    {
        if (error > 0)
        {
            Libc.SyncData(_dataFile, DataPath);
            _environment.BeginWrite().Dispose();
        }

        ThrowWriteFailed(error, "commit");
    }

    /// <summary>
    /// Makes the data file aside, durable with its databases in it, and renames it into place. LMDB writes the first pages
    /// of a new file without a sync: a power failure just then would leave a file that LMDB refuses for ever.
    /// </summary>
    private static void CreateIfMissing(string directory, DiskOptions options)
    {
        var aside = Path.Combine(directory, "new");
        if (Directory.Exists(aside))
        {
            Directory.Delete(aside, recursive: true);
        }

        var target = Path.Combine(directory, DataFile);
        if (File.Exists(target))
        {
            return;
        }

        _ = Directory.CreateDirectory(aside);
        using (var environment = OpenEnvironment(aside, options, options.MapBytes))
        {
            _ = DiskDatabases.Open(environment, aside);
        }

        File.Move(Path.Combine(aside, DataFile), target, overwrite: true);
        Libc.SyncDirectory(directory);
        Directory.Delete(aside, recursive: true);
    }

    private static LmdbEnvironment OpenEnvironment(string directory, DiskOptions options, long mapBytes)
    {
        var file = new FileInfo(Path.Combine(directory, DataFile));
        var floor = Math.Max(options.MapBytesFloor, file.Exists ? file.Length * 2 : 0);

        // Readahead stays on (no MDB_NORDAHEAD): from a cold cache it makes scans and snapshots five times faster and
        // costs random reads up to a third (README, "LMDB's rules").
        return LmdbEnvironment.Open(directory, LmdbNative.MDB_NOTLS, mapBytes, floor, options.ReadersMax);
    }

    private bool IsDiskFull(int error) => error is NoSpace or QuotaExceeded ||
        (error == InputOutput && new DriveInfo(_directory).AvailableFreeSpace < FreeBytesWhenFull);

    private DiskReader CreateReader()
    {
        var reader = new DiskReader(_environment.BeginRead(), _databases);
        reader.End();
        return reader;
    }
}
