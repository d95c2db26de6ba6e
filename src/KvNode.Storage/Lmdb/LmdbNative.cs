using System.Runtime.InteropServices;

namespace KvNode.Storage.Lmdb;

/// <summary>LMDB's <c>MDB_val</c>: a pointer and a length, 16 bytes on every 64-bit system.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LmdbValue
{
    public nuint Size;
    public void* Data;

    public LmdbValue(void* data, int size)
    {
        Data = data;
        Size = (nuint)size;
    }
}

/// <summary>LMDB's <c>MDB_envinfo</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LmdbEnvironmentInfo
{
    public void* MapAddress;
    public nuint MapSize;
    public nuint LastPageNumber;
    public nuint LastTransactionId;
    public uint ReadersMax;
    public uint ReadersUsed;
}

/// <summary>LMDB's <c>MDB_stat</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct LmdbStatistics
{
    public uint PageSize;
    public uint Depth;
    public nuint BranchPages;
    public nuint LeafPages;
    public nuint OverflowPages;
    public nuint Entries;
}

/// <summary>The cursor moves used here; numbers from lmdb.h, <c>MDB_cursor_op</c>.</summary>
internal enum LmdbCursorOperation
{
    First = 0,
    Last = 6,
    Next = 8,
    Previous = 12,
    Set = 15,
    SetRange = 17,
}

/// <summary>
/// liblmdb 0.9 (Debian: liblmdb0), one to one with lmdb.h, only what is used.
/// </summary>
/// <remarks>
/// <para>Every function returns 0 or an error: a negative <c>MDB_*</c> code or a positive errno.</para>
/// <para>Threads. A write transaction belongs to the thread that began it, for ever: committed elsewhere it returns 0 and
/// leaves the writer's mutex locked. A read transaction and its cursors, under MDB_NOTLS, may move between threads but
/// serve one at a time. The environment may be shared.</para>
/// <para>Memory. What a read returns points into the map, is never written through, and lives until the transaction is
/// reset, aborted or committed; inside the write transaction only until its next change.</para>
/// <para>None of the reads or writes suppress the garbage collector's transition: a page fault inside would hold up a
/// collection, and so the process, for one disk read. <see cref="mdb_txn_reset"/> touches only the reader's own slot and
/// may.</para>
/// </remarks>
#pragma warning disable IDE1006, CA1707 // the names are LMDB's, so that its manual can be searched
internal static unsafe partial class LmdbNative
{
    public const string Library = "liblmdb.so.0";

    // mdb_env_open
    public const uint MDB_RDONLY = 0x20000;
    public const uint MDB_NOTLS = 0x200000;
    public const uint MDB_NOLOCK = 0x400000;

    // mdb_dbi_open
    public const uint MDB_CREATE = 0x40000;

    // mdb_put, mdb_cursor_put
    public const uint MDB_RESERVE = 0x10000;
    public const uint MDB_APPEND = 0x20000;

    // return codes
    public const int MDB_SUCCESS = 0;
    public const int MDB_NOTFOUND = -30798;
    public const int MDB_PAGE_NOTFOUND = -30797;
    public const int MDB_CORRUPTED = -30796;
    public const int MDB_PANIC = -30795;
    public const int MDB_VERSION_MISMATCH = -30794;
    public const int MDB_INVALID = -30793;
    public const int MDB_MAP_FULL = -30792;
    public const int MDB_READERS_FULL = -30790;
    public const int MDB_TXN_FULL = -30788;
    public const int MDB_BAD_TXN = -30782;

    /// <summary>Three out parameters and the text, "LMDB 0.9.24: (July 24, 2019)".</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial byte* mdb_version(int* major, int* minor, int* patch);

    /// <summary>Text of any return code. Static memory, except that unknown errno text is the C library's.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial byte* mdb_strerror(int error);

    /// <summary>Allocates a handle; must be closed even if opening fails.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_create(nint* environment);

    /// <summary>Opens the files. After an error the handle may only be closed. ENOMEM: the map does not fit in the
    /// address space. An existing file larger than the map raises the map to its size.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_open(nint environment, byte* path, uint flags, uint mode);

    /// <summary>Unmaps and closes. All transactions and cursors must be gone.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial void mdb_env_close(nint environment);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_set_mapsize(nint environment, nuint size);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_set_maxreaders(nint environment, uint readers);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_set_maxdbs(nint environment, uint databases);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_get_maxkeysize(nint environment);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_info(nint environment, LmdbEnvironmentInfo* info);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_env_stat(nint environment, LmdbStatistics* statistics);

    /// <summary>MDB_RDONLY: takes a reader slot, MDB_READERS_FULL when there is none. Otherwise waits for the one
    /// writer's mutex. MDB_PANIC: an earlier commit failed while writing the meta page; only closing helps.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_txn_begin(nint environment, nint parent, uint flags, nint* transaction);

    /// <summary>Frees the handle whatever it returns. Any error means that nothing was committed.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_txn_commit(nint transaction);

    /// <summary>Frees the handle. A write transaction leaves no trace.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial void mdb_txn_abort(nint transaction);

    /// <summary>Lets go of a read transaction's snapshot and keeps its handle and slot. Touches only its own slot: no
    /// page fault, no wait.</summary>
    [LibraryImport(Library)]
    [SuppressGCTransition]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial void mdb_txn_reset(nint transaction);

    /// <summary>Gives a reset read transaction the newest snapshot.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_txn_renew(nint transaction);

    /// <summary>The handle is usable by every later transaction once this one has committed.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_dbi_open(nint transaction, byte* name, uint flags, uint* database);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_stat(nint transaction, uint database, LmdbStatistics* statistics);

    /// <summary>With delete 0: removes every record and keeps the database.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_drop(nint transaction, uint database, int delete);

    /// <summary>MDB_NOTFOUND, or the value inside the map.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_get(nint transaction, uint database, LmdbValue* key, LmdbValue* value);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_put(nint transaction, uint database, LmdbValue* key, LmdbValue* value, uint flags);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_del(nint transaction, uint database, LmdbValue* key, LmdbValue* value);

    /// <summary>A cursor of the write transaction ends with it; one of a read transaction must be closed, and may be
    /// renewed into another.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_cursor_open(nint transaction, uint database, nint* cursor);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial void mdb_cursor_close(nint cursor);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_cursor_renew(nint transaction, nint cursor);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_cursor_get(nint cursor, LmdbValue* key, LmdbValue* value, LmdbCursorOperation operation);

    /// <summary>MDB_APPEND: MDB_KEYEXIST when the key is not above the last. MDB_RESERVE: the value's size in, the memory
    /// to fill out. After an error other than MDB_KEYEXIST the transaction can only be aborted.</summary>
    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_cursor_put(nint cursor, LmdbValue* key, LmdbValue* value, uint flags);

    [LibraryImport(Library)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int mdb_cursor_del(nint cursor, uint flags);
}
#pragma warning restore IDE1006, CA1707
