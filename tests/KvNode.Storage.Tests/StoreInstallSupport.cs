using System.Text;
using KvNode.Storage.Snapshots;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>
/// States that say of every part which one they are: state <c>n</c> is at index <c>n</c>, each value, the count and the
/// engine's bytes name it. So a mix of two shows wherever one looks.
/// </summary>
internal static class NamedState
{
    public const int KeysMin = 50;

    public static int Count(ulong n) => KeysMin + (int)(n % 100);

    public static ulong Term(ulong n) => 1 + (n / 10);

    public static byte[] Engine(ulong n) => Encoding.ASCII.GetBytes($"engine {n}");

    public static byte[] Key(int i) => Encoding.ASCII.GetBytes($"key:{i:D6}");

    public static byte[] Value(ulong n) => Encoding.ASCII.GetBytes($"value of {n}");

    public static SnapshotHeader Header(ulong n) =>
        new(n, Term(n), (long)n, Count(n), ["a:1"]) { EngineState = Engine(n) };

    public static InstallManifest Manifest(ulong n) => Manifest(Header(n));

    public static InstallManifest Manifest(SnapshotHeader header) => new()
    {
        Index = header.Index,
        Term = header.Term,
        Count = header.Count,
        EngineState = header.EngineState,
    };

    public static byte[] File(ulong n) => SnapshotSupport.Write(
        Enumerable.Range(0, Count(n)).Select(i => new SnapshotRecord(Key(i), Value(n))).ToList(), Header(n));

    /// <summary>Makes it the store's state by a batch, from whatever is there.</summary>
    public static void Apply(Store store, ulong n)
    {
        var view = store.BeginBatch();
        view.Clear();
        for (var i = 0; i < Count(n); i++)
        {
            view.Put(Key(i), Value(n));
        }

        store.Publish(n, Term(n), (long)n, Engine(n));
    }

    public static void Install(Store store, ulong n, int pieceBytes = 1000)
    {
        using var install = StoreInstall.Begin(store, Manifest(n));
        Feed(install, File(n), pieceBytes);
        install.Commit();
    }

    public static void Feed(StoreInstall install, ReadOnlySpan<byte> file, int pieceBytes = 1000)
    {
        while (!file.IsEmpty)
        {
            var piece = file[..Math.Min(pieceBytes, file.Length)];
            install.Write(piece);
            file = file[piece.Length..];
        }
    }

    /// <summary>Which state the view shows, every part of it agreeing.</summary>
    public static ulong Of(StoreReadView view)
    {
        var n = view.Index;
        if (n == 0)
        {
            Assert.Equal(0, view.Count);
            return n;
        }

        Assert.Equal((Term(n), Count(n), (long)n), (view.Term, (int)view.Count, view.ClockMs));
        using var cursor = view.Scan(default);
        var count = 0;
        while (cursor.MoveNext())
        {
            Assert.True(cursor.Key.SequenceEqual(Key(count++)));
            Assert.True(cursor.Value.SequenceEqual(Value(n)), $"state {n} shows {Encoding.ASCII.GetString(cursor.Value)}");
        }

        Assert.Equal(Count(n), count);
        Assert.True(view.TryGet(Key(count - 1), out var last));
        Assert.True(last.SequenceEqual(Value(n)));
        Assert.False(view.Exists(Key(count)));
        return n;
    }

    /// <summary>Opens the directory as after a crash, and looks at all that is durable there.</summary>
    /// <returns>Which state it is, and at which the store says it was installed.</returns>
    public static (ulong State, ulong InstalledAt) Reopen(string directory)
    {
        (ulong State, ulong InstalledAt) found;
        using (var store = Open(directory))
        {
            using var view = store.OpenView(out var engineState);
            var durable = store.DurablePosition;
            found = (Of(view), durable.InstalledIndex);
            Assert.Equal((view.Index, view.Term), (durable.Index, durable.Term));
            Assert.Equal(found.State == 0 ? [] : Engine(found.State), engineState);
            Assert.Equal(engineState, durable.EngineState.ToArray());
            Assert.Equal(found.InstalledAt == 0 ? 0 : Term(found.InstalledAt), durable.InstalledTerm);
            Assert.Equal(["LOCK", "lmdb"], Names(directory));
            Assert.Equal(["data.mdb", "lock.mdb"], Names(Path.Combine(directory, "lmdb")));
        }

        Assert.Empty(Store.Verify(directory).Findings);
        return found;
    }

    public static Store Open(string directory, long mapBytes = 1L << 40) => Store.Open(directory, new StoreOptions
    {
        WriteBufferBytes = 1 << 20,
        FlushInterval = TimeSpan.FromHours(1),
        MapBytes = mapBytes,
        Fatal = static _ => { },
    });

    public static string[] Names(string directory) =>
        Directory.GetFileSystemEntries(directory).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal).ToArray();

    /// <summary>What a kill at this moment leaves: the files as the page cache has them, without the lock.</summary>
    public static void CopyDirectory(string source, string target)
    {
        _ = Directory.CreateDirectory(target);
        foreach (var directory in Directory.GetDirectories(source))
        {
            CopyDirectory(directory, Path.Combine(target, Path.GetFileName(directory)));
        }

        foreach (var file in Directory.GetFiles(source).Where(file => Path.GetFileName(file) != "LOCK"))
        {
            using var from = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            using var to = new FileStream(Path.Combine(target, Path.GetFileName(file)), FileMode.CreateNew);
            from.CopyTo(to);
        }
    }
}
