using System.Text;
using KvNode.Storage.Lmdb;
using Xunit;

namespace KvNode.Storage.Tests;

public sealed class DiskKeyspaceTests
{
    private static void Commit(DiskKeyspace disk, in DiskState state, ReadOnlySpan<byte> engineState)
    {
        using var writer = disk.BeginWrite();
        writer.SetState(state, engineState);
        writer.Commit();
    }

    private static byte[] EngineStateOf(DiskKeyspace disk)
    {
        var reader = disk.RentReader();
        var bytes = reader.EngineState.ToArray();
        disk.ReturnReader(reader);
        return bytes;
    }

    // Read past LMDB's lock file, for it may be open.
    private static int FormatOf(string directory)
    {
        using var environment = LmdbEnvironment.Open(
            directory, LmdbNative.MDB_RDONLY | LmdbNative.MDB_NOLOCK | LmdbNative.MDB_NOTLS, 1 << 24, 1 << 20, 1);
        using var transaction = environment.BeginRead();
        Assert.True(transaction.TryOpenDatabase(Layout.SystemDatabase, create: false, out var system));
        Assert.True(transaction.TryGet(system, Layout.FormatKey, out var record));
        Assert.True(Layout.TryReadFormat(record, out var version));
        return (int)version;
    }

    private static readonly DiskOptions Tiny = new()
    {
        MapBytes = 256 << 10,
        MapBytesFloor = 256 << 10,
        GrowWaitMax = TimeSpan.FromSeconds(20),
    };

    [Fact]
    public void MapGrowsWhileReadersAreBusyAndEveryWriteArrives()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        using var stop = new CancellationTokenSource();
        var threads = new List<Thread>();
        var failures = new List<Exception>();
        for (var i = 0; i < 3; i++)
        {
            var thread = new Thread(() => ReadUntilStopped(disk, failures, stop.Token));
            thread.Start();
            threads.Add(thread);
        }

        var grown = 0;
        const int Batches = 40;
        for (var batch = 1; batch <= Batches; batch++)
        {
            grown += WriteGrowing(disk, batch);
        }

        stop.Cancel();
        threads.ForEach(thread => thread.Join());
        Assert.Empty(failures);
        Assert.True(grown >= 4, $"the map grew only {grown} times");
        Assert.Equal(256L << 10 << grown, disk.Statistics().MapBytes);
        var reader = disk.RentReader();
        Assert.Equal(Batches * 100, reader.State.Count);
        disk.ReturnReader(reader);
        disk.Dispose();
        Assert.Empty(DiskVerifier.Verify(directory.Path).Findings);
    }

    [Fact]
    public void MapThatCannotGrowBecauseOfAHeldReaderGrowsLater()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny with { GrowWaitMax = TimeSpan.FromMilliseconds(10) });
        _ = WriteGrowing(disk, 1);
        var reader = disk.RentReader();
        var before = disk.Statistics().MapBytes;
        Assert.Throws<DiskFullException>(disk.GrowMap);
        Assert.True(reader.TryGet("1/0"u8, out _));
        disk.ReturnReader(disk.RentReader());
        disk.ReturnReader(reader);
        disk.GrowMap();
        Assert.Equal(before * 2, disk.Statistics().MapBytes);
    }

    [Fact]
    public void MapIsHalvedUntilItFitsAndStaysWhenItCannotGrow()
    {
        // No 64-bit Linux gives a process 2^48 bytes of addresses without being asked by address.
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, new DiskOptions { MapBytes = 1L << 48 });
        var map = disk.Statistics().MapBytes;
        Assert.InRange(map, 16L << 30, (1L << 48) - 1);
        _ = WriteGrowing(disk, 1);
        while (true)
        {
            try
            {
                disk.GrowMap();
                map *= 2;
            }
            catch (DiskFullException)
            {
                break;
            }
        }

        Assert.Equal(map, disk.Statistics().MapBytes);
        _ = WriteGrowing(disk, 2);
        Assert.Throws<LmdbException>(() => DiskKeyspace.Open(
            Path.Combine(directory.Path, "other"), new DiskOptions { MapBytesFloor = 1L << 48 }));
    }

    [Fact]
    public void FileLargerThanTheMapOpensWithRoomToGrow()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            for (var batch = 1; batch <= 10; batch++)
            {
                _ = WriteGrowing(disk, batch);
            }
        }

        using var again = DiskKeyspace.Open(directory.Path, Tiny);
        var statistics = again.Statistics();
        Assert.True(statistics.FileBytes > Tiny.MapBytes);
        Assert.True(statistics.MapBytes >= statistics.FileBytes * 2);
        Assert.True(statistics.UsedBytes <= statistics.FileBytes);
        Assert.Equal(1000, statistics.Records);
    }

    [Fact]
    public void AbortedWorkLeavesNothing()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        using (var writer = disk.BeginWrite())
        {
            writer.Put("k"u8, "\0v"u8);
            writer.Put(LayoutTests.Filled((byte)'l', 1500), "\0v"u8);
            writer.SetState(new DiskState { AppliedIndex = 9, Count = 2 });
        }

        Assert.Equal(0, disk.Statistics().Records);
        var reader = disk.RentReader();
        Assert.Equal(default, reader.State);
        disk.ReturnReader(reader);
    }

    [Fact]
    public void ClearRemovesEverythingAndWhatFollowsItStays()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        using (var writer = disk.BeginWrite())
        {
            writer.Put(""u8, "\0v"u8);
            writer.Put("b"u8, "\0v"u8);
            writer.Put(LayoutTests.Filled((byte)'l', 1500), "\0v"u8);
            writer.Commit();
        }

        using (var writer = disk.BeginWrite())
        {
            writer.Put("c"u8, "\0v"u8);
            writer.Put(LayoutTests.Filled((byte)'m', 1500), "\0v"u8);
            writer.Clear();
            writer.Put("a"u8, "\0v"u8);
            writer.Put(LayoutTests.Filled((byte)'n', 600), "\0v"u8);
            writer.SetState(new DiskState { Count = 2 });
            writer.Commit();
        }

        var reader = disk.RentReader();
        using (var cursor = reader.OpenCursor())
        {
            Assert.True(cursor.SeekFirst());
            Assert.True(cursor.Key.SequenceEqual("a"u8));
            Assert.True(cursor.MoveNext());
            Assert.Equal(600, cursor.Key.Length);
            Assert.False(cursor.MoveNext());
        }

        disk.ReturnReader(reader);
        Assert.Equal(3, disk.Statistics().Records);
    }

    [Fact]
    public void StateNotSetStaysAndValuesInTwoPiecesAreJoined()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            using var writer = disk.BeginWrite();
            writer.SetState(new DiskState { AppliedIndex = 3, AppliedTerm = 2, Count = 1, ClockMs = 8, NextItemId = 4 });
            writer.Commit();
        }

        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            using var writer = disk.BeginWrite();
            writer.Put("k"u8, "\0he"u8, "ad"u8);
            writer.Put("e"u8, "\0"u8, default);
            writer.Commit();
            var reader = disk.RentReader();
            Assert.Equal(
                new DiskState { AppliedIndex = 3, AppliedTerm = 2, Count = 1, ClockMs = 8, NextItemId = 4 }, reader.State);
            Assert.True(reader.TryGet("k"u8, out var value));
            Assert.True(value.SequenceEqual("\0head"u8));
            Assert.True(reader.TryGet("e"u8, out value));
            Assert.True(value.SequenceEqual("\0"u8));
            disk.ReturnReader(reader);
        }
    }

    [Fact]
    public void KeyBeyondTheLimitIsRefusedAndNeverFound()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        var key = new byte[StoreLimits.KeyBytesMax + 1];
        using var writer = disk.BeginWrite();
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Put(key, "\0v"u8));
        writer.Put(key.AsSpan(1), "\0v"u8);
        Assert.False(writer.Delete(key));
        writer.Commit();
        var reader = disk.RentReader();
        Assert.True(reader.TryGet(key.AsSpan(1), out _));
        Assert.False(reader.TryGet(key, out _));
        using (var cursor = reader.OpenCursor())
        {
            Assert.False(cursor.SeekAtOrAfter(key));
            Assert.True(cursor.SeekBefore(key));
            Assert.Equal(StoreLimits.KeyBytesMax, cursor.Key.Length);
        }

        disk.ReturnReader(reader);
    }

    [Fact]
    public void WriterRefusesASecondBeginAnotherThreadAndUseAfterTheEnd()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        var writer = disk.BeginWrite();
        Assert.Throws<InvalidOperationException>(() => disk.BeginWrite());
        Assert.Throws<InvalidOperationException>(disk.GrowMap);
        Exception? elsewhere = null;
        var thread = new Thread(() => elsewhere = Record.Exception(writer.Commit));
        thread.Start();
        thread.Join();
        Assert.IsType<InvalidOperationException>(elsewhere);
        writer.Put("k"u8, "\0v"u8);
        writer.Commit();
        Assert.Throws<InvalidOperationException>(() => writer.Put("k"u8, "\0v"u8));
        Assert.Throws<InvalidOperationException>(writer.Commit);
        writer.Abort();
        Assert.Equal(1, disk.Statistics().Records);
    }

    [Fact]
    public void EngineStateIsCommittedWithTheStateAndRaisesTheFormat()
    {
        using var directory = new DiskTestDirectory();
        var state = new DiskState { AppliedIndex = 3, AppliedTerm = 1 };
        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            Commit(disk, state, []);
            Assert.Equal(1, FormatOf(directory.Path));
            Commit(disk, state, "first, and longer"u8);
            Commit(disk, state, "second"u8);
            using (var writer = disk.BeginWrite())
            {
                writer.SetState(state, "never committed"u8);
            }

            using (var writer = disk.BeginWrite())
            {
                // A transaction that does not speak of the state leaves it as it was.
                writer.Put("k"u8, "\0v"u8);
                writer.Commit();
            }
        }

        Assert.Equal(2, FormatOf(directory.Path));
        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            Assert.Equal("second"u8.ToArray(), EngineStateOf(disk));
            Commit(disk, state, []);
            Assert.Equal([], EngineStateOf(disk));
            Assert.Equal(2, FormatOf(directory.Path));
        }
    }

    [Fact]
    public void AnInstalledSnapshotRaisesTheFormat()
    {
        using var directory = new DiskTestDirectory();
        using (var disk = DiskKeyspace.Open(directory.Path, Tiny))
        {
            Commit(disk, new DiskState { AppliedIndex = 3, AppliedTerm = 1, InstalledIndex = 3, InstalledTerm = 1 }, []);
        }

        Assert.Equal(2, FormatOf(directory.Path));
        var report = DiskVerifier.Verify(directory.Path);
        Assert.Empty(report.Findings);
        Assert.Equal((3ul, 1ul), (report.InstalledIndex, report.InstalledTerm));
    }

    [Fact]
    public void UnknownFormatIsRefusedInClearWords()
    {
        using var directory = new DiskTestDirectory();
        DiskKeyspace.Open(directory.Path, Tiny).Dispose();
        Raw(directory.Path, "sys"u8, "format"u8, [.. "KVND"u8, 0, 0, 0, 3]);
        var refused = Assert.Throws<DiskFormatException>(() => DiskKeyspace.Open(directory.Path, Tiny));
        Assert.Contains("format 3", refused.Message, StringComparison.Ordinal);
        Assert.Contains(directory.Path, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DatabaseOfAnotherProgramIsRefusedAndLeftAlone()
    {
        using var directory = new DiskTestDirectory();
        Raw(directory.Path, "theirs"u8, "k"u8, "v"u8);
        Assert.Throws<DiskFormatException>(() => DiskKeyspace.Open(directory.Path, Tiny));
        using var garbage = new DiskTestDirectory();
        File.WriteAllBytes(Path.Combine(garbage.Path, "data.mdb"), LayoutTests.Filled(0x55, 8192));
        var refused = Assert.Throws<LmdbException>(() => DiskKeyspace.Open(garbage.Path, Tiny));
        Assert.Equal(LmdbNative.MDB_INVALID, refused.Code);
    }

    [Fact]
    public void OnlyAFullDiskMayBeTriedAgain()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Tiny);
        const int InputOutput = 5, NoSpace = 28, QuotaExceeded = 122;
        Assert.Throws<DiskFullException>(() => disk.ThrowCommitFailed(NoSpace));
        Assert.Throws<DiskFullException>(() => disk.ThrowCommitFailed(QuotaExceeded));
        Assert.Throws<DiskFullException>(() => disk.ThrowWriteFailed(NoSpace, "put"));
        Assert.Throws<MapFullException>(() => disk.ThrowCommitFailed(LmdbNative.MDB_MAP_FULL));
        Assert.Equal(typeof(LmdbException), Record.Exception(() => disk.ThrowCommitFailed(InputOutput))!.GetType());
        Assert.Equal(typeof(LmdbException), Record.Exception(() => disk.ThrowCommitFailed(LmdbNative.MDB_PANIC))!.GetType());
        _ = WriteGrowing(disk, 1);
    }

    [Fact]
    public void MissingLibraryIsNamedWithItsPackage()
    {
        NativeLibraries.Require();
        var missing = Assert.Throws<NativeLibraryMissingException>(
            () => NativeLibraries.RequireLibrary("libnone.so.9", "libnone9"));
        Assert.Equal(("libnone.so.9", "libnone9"), (missing.Library, missing.Package));
        Assert.Contains("apt-get install libnone9", missing.Message, StringComparison.Ordinal);
    }

    /// <summary>Puts one record past the store, as damage or as another program would.</summary>
    internal static void Raw(string directory, ReadOnlySpan<byte> database, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        using var environment = LmdbEnvironment.Open(directory, LmdbNative.MDB_NOTLS, 64 << 20, 64 << 20, 8);
        using var transaction = environment.BeginWrite();
        Assert.True(transaction.TryOpenDatabase(database, create: true, out var handle));
        Assert.Equal(0, transaction.Put(handle, key, value));
        Assert.Equal(0, transaction.Commit());
    }

    /// <summary>One batch of 100 keys, flushed as the store does: on a full map abort, grow, repeat.</summary>
    private static int WriteGrowing(DiskKeyspace disk, int batch)
    {
        var value = new byte[500];
        for (var grown = 0; ; grown++)
        {
            using var writer = disk.BeginWrite();
            try
            {
                for (var i = 0; i < 100; i++)
                {
                    writer.Put(Encoding.ASCII.GetBytes($"{batch}/{i}"), value);
                }

                writer.SetState(new DiskState { AppliedIndex = (ulong)batch, Count = batch * 100 });
                writer.Commit();
                return grown;
            }
            catch (MapFullException)
            {
                writer.Abort();
                disk.GrowMap();
            }
        }
    }

    private static void ReadUntilStopped(DiskKeyspace disk, List<Exception> failures, CancellationToken stop)
    {
        try
        {
            while (!stop.IsCancellationRequested)
            {
                var reader = disk.RentReader();
                var count = 0L;
                using (var cursor = reader.OpenCursor())
                {
                    for (var more = cursor.SeekFirst(); more; more = cursor.MoveNext())
                    {
                        count++;
                    }
                }

                Assert.Equal(reader.State.Count, count);
                disk.ReturnReader(reader);
            }
        }
        catch (Exception e)
        {
            lock (failures)
            {
                failures.Add(e);
            }
        }
    }
}
