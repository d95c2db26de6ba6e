using Xunit;

namespace KvNode.Storage.Tests;

public sealed class DiskReaderTests
{
    private static readonly DiskOptions Options = new()
    {
        MapBytes = 64L << 20,
        MapBytesFloor = 1L << 20,
        ReadersMax = 4,
        GrowWaitMax = TimeSpan.FromMilliseconds(20),
    };

    [Fact]
    public void ReaderKeepsItsPictureWhileOthersCommit()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        Commit(disk, "k"u8, "\01"u8, 1);
        var before = disk.RentReader();
        Commit(disk, "k"u8, "\02"u8, 2);
        var after = disk.RentReader();
        Assert.True(before.TryGet("k"u8, out var old));
        Assert.True(after.TryGet("k"u8, out var now));
        Assert.True(old.SequenceEqual("\01"u8));
        Assert.True(now.SequenceEqual("\02"u8));
        Assert.Equal((1ul, 2ul), (before.State.AppliedIndex, after.State.AppliedIndex));
        disk.ReturnReader(before);
        disk.ReturnReader(after);
    }

    [Fact]
    public void ReaderBeyondTheLimitIsRefusedAndOneReturnedServesAgain()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var readers = new List<DiskReader>();
        for (var i = 0; i < Options.ReadersMax; i++)
        {
            readers.Add(disk.RentReader());
        }

        Assert.Throws<ReadersExhaustedException>(() => disk.RentReader());
        disk.ReturnReader(readers[2]);
        readers[2] = disk.RentReader();
        foreach (var reader in readers)
        {
            disk.ReturnReader(reader);
        }

        Assert.Equal(0, disk.Statistics().ReadersInUse);
    }

    [Fact]
    public void ReaderRestingInAnotherThreadsSlotIsFoundBeforeRefusing()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options with { ReadersMax = 1 });
        for (var i = 0; i < 8; i++)
        {
            Exception? refused = null;
            var thread = new Thread(() => refused = Record.Exception(() => disk.ReturnReader(disk.RentReader())));
            thread.Start();
            thread.Join();
            Assert.Null(refused);
        }

        disk.ReturnReader(disk.RentReader());
    }

    [Fact]
    public void ReturnedReaderIsOfNoMoreUse()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var reader = disk.RentReader();
        disk.ReturnReader(reader);
        Assert.Throws<InvalidOperationException>(() => reader.TryGet("k"u8, out _));
        Assert.Throws<InvalidOperationException>(() => reader.State);
        Assert.Throws<InvalidOperationException>(() => reader.OpenCursor());
        Assert.Throws<InvalidOperationException>(() => disk.ReturnReader(reader));
    }

    [Fact]
    public void ReaderWithAnOpenCursorIsNotTakenBack()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var reader = disk.RentReader();
        var cursor = reader.OpenCursor();
        Assert.Throws<InvalidOperationException>(() => disk.ReturnReader(reader));
        Assert.Throws<InvalidOperationException>(() => cursor.Key.Length);
        cursor.Dispose();
        cursor.Dispose();
        disk.ReturnReader(reader);
    }

    [Fact]
    public void CursorsOfOneReaderWalkIndependently()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        Commit(disk, "a"u8, "\0"u8, 1);
        Commit(disk, LayoutTests.Filled((byte)'b', 2000), "\0"u8, 2);
        for (var round = 0; round < 3; round++)
        {
            var reader = disk.RentReader();
            using (var first = reader.OpenCursor())
            using (var second = reader.OpenCursor())
            {
                Assert.True(first.SeekFirst());
                Assert.True(second.SeekLast());
                Assert.Equal((1, 2000), (first.Key.Length, second.Key.Length));
                Assert.True(first.MoveNext());
                Assert.True(second.MovePrevious());
                Assert.Equal((2000, 1), (first.Key.Length, second.Key.Length));
            }

            disk.ReturnReader(reader);
        }
    }

    [Fact]
    public void CursorUsedAgainShowsTheNewPicture()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var longKey = LayoutTests.Filled((byte)'l', 600);
        for (byte round = 1; round < 5; round++)
        {
            Commit(disk, "k"u8, [0, round], round);
            Commit(disk, longKey, [0, round], round);
            var reader = disk.RentReader();
            using (var cursor = reader.OpenCursor())
            {
                Assert.True(cursor.SeekAtOrAfter("k"u8));
                Assert.Equal([0, round], cursor.Value.ToArray());
                Assert.True(cursor.SeekAtOrAfter(longKey));
                Assert.Equal([0, round], cursor.Value.ToArray());
            }

            disk.ReturnReader(reader);
        }
    }

    [Fact]
    public void StoreWithARentedReaderIsNotClosedUnderIt()
    {
        using var directory = new DiskTestDirectory();
        var disk = DiskKeyspace.Open(directory.Path, Options);
        Commit(disk, "k"u8, "\0v"u8, 1);
        var reader = disk.RentReader();
        Assert.Throws<InvalidOperationException>(disk.Dispose);
        Assert.True(reader.TryGet("k"u8, out _));
        disk.ReturnReader(reader);
        disk.Dispose();
        Assert.Throws<ObjectDisposedException>(() => disk.RentReader());
        Assert.Throws<ObjectDisposedException>(() => disk.BeginWrite());
    }

    [Fact]
    public void ReadingAllocatesNothing()
    {
        using var directory = new DiskTestDirectory();
        using var disk = DiskKeyspace.Open(directory.Path, Options);
        var longKey = LayoutTests.Filled((byte)'z', 5000);
        Commit(disk, "k"u8, "\0v"u8, 1);
        Commit(disk, longKey, "\0v"u8, 2);
        _ = Read(disk, longKey, 3);
        var before = GC.GetAllocatedBytesForCurrentThread();
        var found = Read(disk, longKey, 1000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(4000, found);
    }

    private static int Read(DiskKeyspace disk, byte[] longKey, int times)
    {
        var found = 0;
        for (var i = 0; i < times; i++)
        {
            var reader = disk.RentReader();
            found += reader.TryGet("k"u8, out _) ? 1 : 0;
            found += reader.TryGet(longKey, out _) ? 1 : 0;
            using (var cursor = reader.OpenCursor())
            {
                for (var more = cursor.SeekFirst(); more; more = cursor.MoveNext())
                {
                    found += cursor.Key.IsEmpty ? 0 : 1;
                }
            }

            disk.ReturnReader(reader);
        }

        return found;
    }

    private static void Commit(DiskKeyspace disk, ReadOnlySpan<byte> key, ReadOnlySpan<byte> value, ulong index)
    {
        using var writer = disk.BeginWrite();
        writer.Put(key, value);
        writer.SetState(new DiskState { AppliedIndex = index });
        writer.Commit();
    }
}
