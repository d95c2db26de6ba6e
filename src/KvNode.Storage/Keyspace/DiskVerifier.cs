using System.Text;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>What a check of the data on disk found.</summary>
public sealed record DiskVerifyReport
{
    /// <summary>One line per fault; empty means that all is as it must be. At most <see cref="FindingsMax"/>, the last
    /// saying that there were more.</summary>
    public required IReadOnlyList<string> Findings { get; init; }

    /// <summary>User keys found by walking.</summary>
    public required long Keys { get; init; }

    /// <summary>Index and term of the last applied entry, as the state record says.</summary>
    public required ulong AppliedIndex { get; init; }
    public required ulong AppliedTerm { get; init; }

    /// <summary>Index and term of the last snapshot installed as a whole; 0 when there was none.</summary>
    public required ulong InstalledIndex { get; init; }
    public required ulong InstalledTerm { get; init; }

    /// <summary>Length of data.mdb.</summary>
    public required long FileBytes { get; init; }

    /// <summary>Most findings that are listed.</summary>
    public const int FindingsMax = 100;
}

/// <summary>Walks the data of a stopped node and reports what is wrong with it.</summary>
/// <remarks>
/// Opens read-only and without LMDB's lock file, so nothing on disk changes; the caller holds the
/// <see cref="DirectoryLock"/> to be sure that the node is stopped. LMDB keeps no checksums: a page that is damaged and
/// still well-formed shows only where one of our own rules is broken, and a malformed one may crash LMDB.
/// </remarks>
public static class DiskVerifier
{
    private const string DataFile = "data.mdb";
    private const int ReadersMax = 4;

    /// <summary>Reads every record.</summary>
    /// <exception cref="NativeLibraryMissingException">No liblmdb.</exception>
    public static DiskVerifyReport Verify(string directory, CancellationToken cancellation = default)
    {
        NativeLibraries.RequireLmdb();
        var walk = new DiskVerification(cancellation);
        var file = new FileInfo(Path.Combine(directory, DataFile));
        if (!file.Exists)
        {
            walk.Find($"'{file.FullName}' does not exist");
            return walk.Report(0);
        }

        try
        {
            using var environment = LmdbEnvironment.Open(directory,
                LmdbNative.MDB_RDONLY | LmdbNative.MDB_NOLOCK | LmdbNative.MDB_NOTLS, file.Length, file.Length, ReadersMax);

            // Past the end of the file a mapped page is a SIGBUS, not an error.
            if (environment.UsedBytes > file.Length)
            {
                walk.Find($"data.mdb is cut short: {file.Length} bytes of {environment.UsedBytes}");
            }
            else if (DiskDatabases.TryOpenExisting(environment, directory, out var databases))
            {
                walk.Run(environment, databases);
            }
            else
            {
                walk.Find("data.mdb is an empty LMDB file");
            }
        }
        catch (Exception e) when (e is LmdbException or DiskFormatException)
        {
            walk.Find(e.Message);
        }

        return walk.Report(file.Length);
    }
}

/// <summary>The walk itself: what it knows so far.</summary>
/// <remarks>A bucket's id is greater than that of the bucket its link stands in, because links are made on the way down
/// and ids are never used twice. So one pass over <c>x</c> in id order sees each bucket after its link, and links that
/// run in a circle cannot pass as sound.</remarks>
internal sealed class DiskVerification(CancellationToken cancellation)
{
    private const int KeyShownBytesMax = 32;

    private readonly List<string> _findings = [];

    // Bucket id -> user key bytes before its rests; an entry leaves when its bucket is met.
    private readonly Dictionary<ulong, int> _links = [];
    private readonly byte[] _previous = new byte[Layout.LinkBytes];
    private long _keys;
    private ulong _nextBucketId;
    private DiskState _state;
    private uint _format;

    public void Find(string finding)
    {
        if (_findings.Count < DiskVerifyReport.FindingsMax - 1)
        {
            _findings.Add(finding);
        }
        else if (_findings.Count == DiskVerifyReport.FindingsMax - 1)
        {
            _findings.Add("and more");
        }
    }

    public DiskVerifyReport Report(long fileBytes) => new()
    {
        Findings = _findings,
        Keys = _keys,
        AppliedIndex = _state.AppliedIndex,
        AppliedTerm = _state.AppliedTerm,
        InstalledIndex = _state.InstalledIndex,
        InstalledTerm = _state.InstalledTerm,
        FileBytes = fileBytes,
    };

    public void Run(LmdbEnvironment environment, in DiskDatabases databases)
    {
        using var transaction = environment.BeginRead();
        if (!ReadSystem(transaction, databases.System))
        {
            return;
        }

        WalkKeys(transaction, databases.Keys);
        WalkBuckets(transaction, databases.Buckets);
        foreach (var id in _links.Keys)
        {
            Find($"bucket {id} is linked but does not exist");
        }

        if (_state.Count != _keys)
        {
            Find($"the state record counts {_state.Count} keys, the walk {_keys}");
        }

        foreach (var reserved in (ReadOnlySpan<uint>)[databases.Collections, databases.Expiry])
        {
            if (transaction.Statistics(reserved).Entries != 0)
            {
                Find("a database reserved for later formats is not empty");
            }
        }
    }

    private bool ReadSystem(LmdbTransaction transaction, uint system)
    {
        using var cursor = transaction.OpenCursor(system);
        var stateFound = false;
        for (var more = cursor.Move(LmdbCursorOperation.First); more; more = cursor.Move(LmdbCursorOperation.Next))
        {
            if (cursor.Key.SequenceEqual(Layout.StateKey))
            {
                stateFound = Layout.TryReadState(cursor.Value, out _state, out _nextBucketId);
            }
            else if (cursor.Key.SequenceEqual(Layout.EmptyKey))
            {
                CheckValue(cursor.Value, "the empty key", default);
            }
            else if (cursor.Key.SequenceEqual(Layout.EngineKey))
            {
                CheckEngineState(cursor.Value);
            }
            else if (cursor.Key.SequenceEqual(Layout.FormatKey))
            {
                _ = Layout.TryReadFormat(cursor.Value, out _format);
            }
            else
            {
                Find($"sys holds an unknown record {Show(cursor.Key)}");
            }
        }

        if (!stateFound)
        {
            Find("the state record is absent or damaged");
        }

        if (_state.InstalledIndex != 0 && _format == Layout.FormatVersionPlain)
        {
            Find("the state record tells of an installed snapshot, which the format record rules out");
        }

        return stateFound;
    }

    private void CheckEngineState(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length is 0 or > StoreLimits.EngineStateBytesMax)
        {
            Find($"the engine's state is of {bytes.Length} bytes");
        }
    }

    private void WalkKeys(LmdbTransaction transaction, uint keys)
    {
        using var cursor = transaction.OpenCursor(keys);
        var previousLength = 0;
        for (var more = cursor.Move(LmdbCursorOperation.First); more; more = cursor.Move(LmdbCursorOperation.Next))
        {
            cancellation.ThrowIfCancellationRequested();
            CheckOrder(cursor.Key, ref previousLength);
            if (Layout.IsLink(cursor.Key))
            {
                CheckLink(cursor, parent: 0, Layout.LinkBytes);
            }
            else
            {
                CheckValue(cursor.Value, "key", cursor.Key);
            }
        }
    }

    private void WalkBuckets(LmdbTransaction transaction, uint buckets)
    {
        using var cursor = transaction.OpenCursor(buckets);
        var previousLength = 0;
        var bucket = 0UL;
        var prefix = 0;
        for (var more = cursor.Move(LmdbCursorOperation.First); more; more = cursor.Move(LmdbCursorOperation.Next))
        {
            cancellation.ThrowIfCancellationRequested();
            CheckOrder(cursor.Key, ref previousLength);
            if (cursor.Key.Length < Layout.BucketIdBytes)
            {
                Find($"x holds the key {Show(cursor.Key)}, too short for a bucket id");
                continue;
            }

            var id = Layout.ReadBucketId(cursor.Key);
            if (id != bucket)
            {
                bucket = id;
                if (!_links.Remove(id, out prefix))
                {
                    Find($"bucket {id} exists but nothing links to it");
                }
            }

            var total = prefix + cursor.Key.Length - Layout.BucketIdBytes;
            if (total > StoreLimits.KeyBytesMax)
            {
                Find($"bucket {id} holds a key of {total} bytes");
            }
            else if (Layout.IsLink(cursor.Key))
            {
                CheckLink(cursor, id, total);
            }
            else
            {
                CheckValue(cursor.Value, $"bucket {id}, rest", cursor.Key[Layout.BucketIdBytes..]);
            }
        }
    }

    private void CheckOrder(ReadOnlySpan<byte> key, ref int previousLength)
    {
        if (key.SequenceCompareTo(_previous.AsSpan(0, previousLength)) <= 0)
        {
            Find($"key {Show(key)} is out of order");
        }

        previousLength = Math.Min(key.Length, _previous.Length);
        key[..previousLength].CopyTo(_previous);
    }

    private void CheckLink(LmdbCursor cursor, ulong parent, int prefix)
    {
        if (cursor.Value.Length != Layout.BucketIdBytes)
        {
            Find($"the link {Show(cursor.Key)} has a value of {cursor.Value.Length} bytes");
            return;
        }

        var id = Layout.ReadBucketId(cursor.Value);
        if (id <= parent || id >= _nextBucketId)
        {
            Find($"the link {Show(cursor.Key)} leads to bucket {id}, not between {parent} and {_nextBucketId}");
        }
        else if (!_links.TryAdd(id, prefix))
        {
            Find($"bucket {id} is linked twice");
        }
    }

    private void CheckValue(ReadOnlySpan<byte> value, string where, ReadOnlySpan<byte> key)
    {
        _keys++;
        if (value.IsEmpty)
        {
            Find($"{where} {Show(key)} has no tag byte");
        }
        else if (!Enum.IsDefined((ValueTag)value[0]))
        {
            Find($"{where} {Show(key)} has the unknown tag 0x{value[0]:x2}");
        }
        else if (value.Length - 1 > StoreLimits.ValueBytesMax)
        {
            Find($"{where} {Show(key)} has a value of {value.Length - 1} bytes");
        }
    }

    private static string Show(ReadOnlySpan<byte> key)
    {
        var text = new StringBuilder("\"");
        foreach (var b in key[..Math.Min(key.Length, KeyShownBytesMax)])
        {
            _ = b is >= 0x20 and < 0x7f and not (byte)'"' and not (byte)'\\' ? text.Append((char)b) : text.Append($"\\x{b:x2}");
        }

        return text.Append(key.Length > KeyShownBytesMax ? $"\"... ({key.Length} bytes)" : "\"").ToString();
    }
}
