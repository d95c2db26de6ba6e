using System.Text;

namespace KvNode.Storage.Lmdb;

/// <summary>One open LMDB directory. Owns the map and both files; dispose after all its transactions.</summary>
/// <remarks>May be shared by threads, except <see cref="Dispose"/>, which nothing may overlap. The same directory must not
/// be open twice in one process (LMDB's rule: the second close would drop the first one's file locks).</remarks>
internal sealed unsafe class LmdbEnvironment : IDisposable
{
    private const int NoMemory = 12;
    private const uint FileMode = 0x180; // rw-------
    private const uint DatabasesMax = 8;

    private nint _handle;

    private LmdbEnvironment(nint handle) => _handle = handle;

    /// <summary>Bytes of address space the map takes.</summary>
    public long MapBytes => (long)Info().MapSize;

    /// <summary>Bytes of the file up to the last page in use or free for reuse, as of the last commit.</summary>
    public long UsedBytes => ((long)Info().LastPageNumber + 1) * Statistics().PageSize;

    /// <summary>Opens with the largest map that fits: first what is asked, then half of it and so on.</summary>
    /// <param name="directory">Must exist.</param>
    /// <param name="flags">MDB_* flags of mdb_env_open.</param>
    /// <param name="mapBytes">First size tried.</param>
    /// <param name="mapBytesMin">Smallest size tried.</param>
    /// <param name="readersMax">Reader slots.</param>
    /// <exception cref="LmdbException">ENOMEM when not even the smallest fits; else what LMDB says of the files.</exception>
    public static LmdbEnvironment Open(string directory, uint flags, long mapBytes, long mapBytesMin, int readersMax)
    {
        for (var bytes = Math.Max(mapBytes, mapBytesMin); ; bytes = Math.Max(bytes / 2, mapBytesMin))
        {
            var error = TryOpen(directory, flags, bytes, readersMax, out var environment);
            if (error == LmdbNative.MDB_SUCCESS)
            {
                return environment!;
            }

            if (error != NoMemory || bytes == mapBytesMin)
            {
                LmdbException.Throw(error, $"open of '{directory}' with a map of {bytes} bytes");
            }
        }
    }

    public LmdbTransaction BeginRead() => Begin(LmdbNative.MDB_RDONLY, "begin of a read transaction");

    /// <summary>Waits for the writer's mutex. The calling thread must also end it.</summary>
    public LmdbTransaction BeginWrite() => Begin(0, "begin of the write transaction");

    public LmdbEnvironmentInfo Info()
    {
        LmdbEnvironmentInfo info;
        LmdbException.ThrowIfError(LmdbNative.mdb_env_info(_handle, &info), "info");
        return info;
    }

    public LmdbStatistics Statistics()
    {
        LmdbStatistics statistics;
        LmdbException.ThrowIfError(LmdbNative.mdb_env_stat(_handle, &statistics), "statistics");
        return statistics;
    }

    public int KeyBytesMax => LmdbNative.mdb_env_get_maxkeysize(_handle);

    public void Dispose()
    {
        if (_handle != 0)
        {
            LmdbNative.mdb_env_close(_handle);
            _handle = 0;
        }
    }

    private static int TryOpen(string directory, uint flags, long mapBytes, int readersMax, out LmdbEnvironment? opened)
    {
        opened = null;
        nint handle;
        var error = LmdbNative.mdb_env_create(&handle);
        if (error != LmdbNative.MDB_SUCCESS)
        {
            return error;
        }

        fixed (byte* path = Encoding.UTF8.GetBytes(directory + '\0'))
        {
            if ((error = LmdbNative.mdb_env_set_maxdbs(handle, DatabasesMax)) == LmdbNative.MDB_SUCCESS &&
                (error = LmdbNative.mdb_env_set_maxreaders(handle, (uint)readersMax)) == LmdbNative.MDB_SUCCESS &&
                (error = LmdbNative.mdb_env_set_mapsize(handle, (nuint)mapBytes)) == LmdbNative.MDB_SUCCESS)
            {
                error = LmdbNative.mdb_env_open(handle, path, flags, FileMode);
            }
        }

        if (error != LmdbNative.MDB_SUCCESS)
        {
            LmdbNative.mdb_env_close(handle);
            return error;
        }

        opened = new LmdbEnvironment(handle);
        return error;
    }

    private LmdbTransaction Begin(uint flags, string operation)
    {
        ObjectDisposedException.ThrowIf(_handle == 0, this);
        nint transaction;
        LmdbException.ThrowIfError(LmdbNative.mdb_txn_begin(_handle, 0, flags, &transaction), operation);
        return new LmdbTransaction(transaction);
    }
}
