using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using System.Text;

namespace KvNode.Storage.Lmdb;

/// <summary>LMDB refused. Unless it is one of the two kinds below, the store is not to be written any more.</summary>
/// <remarks>
/// What a caller does: <see cref="MapFullException"/>: grow the map, repeat. <see cref="DiskFullException"/>: keep the
/// data, repeat later. Anything else: stop the node; the data is as it was at the last successful commit.
/// </remarks>
public class LmdbException(int code, string operation, string meaning)
    : IOException($"LMDB: {operation}: {meaning} (code {code})")
{
    private const int NoSuchFile = 2;
    private const int InputOutput = 5;
    private const int NoMemory = 12;
    private const int AccessDenied = 13;
    private const int Invalid = 22;

    /// <summary>A negative MDB_* code or a positive errno.</summary>
    public int Code { get; } = code;

    /// <summary>The files are damaged or are not LMDB's; waiting and trying again does not help.</summary>
    public bool IsDamage => Code is LmdbNative.MDB_PAGE_NOTFOUND or LmdbNative.MDB_CORRUPTED
        or LmdbNative.MDB_VERSION_MISMATCH or LmdbNative.MDB_INVALID;

    /// <summary>The disk failed under a write or a sync (LMDB reads through the map), so what was written may be gone.</summary>
    public bool IsDiskFailure => Code == InputOutput;

    /// <summary>The system does not let this user.</summary>
    public bool IsPermission => Code == AccessDenied;

    /// <summary>What a return code means for us, in words for the person who reads the log.</summary>
    internal static string Describe(int code) => code switch
    {
        LmdbNative.MDB_PAGE_NOTFOUND or LmdbNative.MDB_CORRUPTED => "the data file is damaged: restore a snapshot",
        LmdbNative.MDB_PANIC => "an earlier commit failed while writing its meta page; restart the node",
        LmdbNative.MDB_VERSION_MISMATCH => "the data file was written by an incompatible LMDB",
        LmdbNative.MDB_INVALID => "data.mdb is not an LMDB file",
        LmdbNative.MDB_MAP_FULL => "the memory map is full",
        LmdbNative.MDB_READERS_FULL => "all reader slots are taken",
        LmdbNative.MDB_TXN_FULL => "the transaction holds too many changed pages",
        LmdbNative.MDB_BAD_TXN => "the transaction failed earlier and can only be aborted",
        NoSuchFile => "no such file or directory",
        InputOutput => "input/output error or short write",
        NoMemory => "the address space or memory is exhausted",
        AccessDenied => "permission denied",
        Invalid => "invalid argument or handle",
        _ => Text(code),
    };

    [DoesNotReturn]
    internal static void Throw(int code, string operation) => throw Create(code, operation);

    internal static void ThrowIfError(int code, string operation)
    {
        if (code != LmdbNative.MDB_SUCCESS)
        {
            Throw(code, operation);
        }
    }

    private static LmdbException Create(int code, string operation) => code == LmdbNative.MDB_MAP_FULL
        ? new MapFullException(operation)
        : new LmdbException(code, operation, Describe(code));

    private static unsafe string Text(int code)
    {
        var text = LmdbNative.mdb_strerror(code);
        return text == null ? "unknown error" : Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text));
    }
}

/// <summary>The map has no room for this transaction. Abort it, grow the map, do it again.</summary>
internal sealed class MapFullException(string operation)
    : LmdbException(LmdbNative.MDB_MAP_FULL, operation, Describe(LmdbNative.MDB_MAP_FULL));

/// <summary>There is no space for this transaction now, on disk or in the address space. Nothing of it was kept and
/// nothing before it was lost, so the same work may be tried again later; reads go on.</summary>
internal sealed class DiskFullException(int code, string operation, string meaning) : LmdbException(code, operation, meaning);
