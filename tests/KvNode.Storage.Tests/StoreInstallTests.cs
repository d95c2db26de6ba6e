using KvNode.Storage.Lmdb;
using KvNode.Storage.Snapshots;
using KvNode.Testing;
using Xunit;
using static KvNode.Storage.Tests.NamedState;

namespace KvNode.Storage.Tests;

/// <summary>A snapshot takes the place of the store's state: what readers, writers and the disk see of it.</summary>
public sealed class StoreInstallTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly DiskTestDirectory _directory = new();

    private string Data => Path.Combine(_directory.Path, "data");

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheSnapshotTakesThePlaceOfAllLayersAndIsDurable(bool flushed)
    {
        using (var store = Open(Data))
        {
            Apply(store, 3);
            if (flushed)
            {
                store.Checkpoint();
            }

            Apply(store, 4);
            Install(store, 17);
            CheckIsInstalled(store, 17);
            Assert.Equal(["LOCK", "lmdb"], Names(Data));

            // Nothing of the old buffers comes back with the next flush.
            var view = store.BeginBatch();
            view.Put("after"u8, "1"u8);
            store.Publish(18, Term(17), 18, Engine(18));
            store.Checkpoint();
            var durable = store.DurablePosition;
            Assert.Equal((18ul, 17ul), (durable.Index, durable.InstalledIndex));
        }

        Assert.Empty(Store.Verify(Data).Findings);
        using var again = Open(Data);
        Assert.Equal((18ul, 17ul), (again.DurablePosition.Index, again.DurablePosition.InstalledIndex));
        Assert.Equal(Engine(18), again.DurablePosition.EngineState.ToArray());
        using var after = again.OpenView();
        Assert.Equal(Count(17) + 1, after.Count);
        Assert.True(after.TryGet(Key(0), out var value));
        Assert.True(value.SequenceEqual(Value(17)));
    }

    [Fact]
    public void EveryByteAtATimeIsAsGoodAsAllAtOnce()
    {
        using var store = Open(Data);
        Install(store, 5, pieceBytes: 1);
        Install(store, 6, pieceBytes: int.MaxValue);
        CheckIsInstalled(store, 6);
    }

    [Fact]
    public async Task OpenViewsAndWalksKeepTheOldStateUntilTheyEnd()
    {
        using var store = Open(Data);
        Apply(store, 1);
        store.Checkpoint();
        Apply(store, 2);
        using var old = store.OpenView();
        using var walk = old.Scan(default);
        Assert.True(walk.MoveNext());

        Install(store, 9);
        Assert.False(Assert.Single(store.Replaced).IsCompleted);
        Apply(store, 10);
        store.Checkpoint();
        using (var now = store.OpenView())
        {
            Assert.Equal(10ul, Of(now));
        }

        var seen = 1;
        while (walk.MoveNext())
        {
            Assert.True(walk.Value.SequenceEqual(Value(2)));
            seen++;
        }

        Assert.Equal(Count(2), seen);
        Assert.Equal(2ul, Of(old));
        walk.Dispose();
        old.Dispose();
        await Assert.Single(store.Replaced).WaitAsync(Patience, TestContext.Current.CancellationToken);
        Assert.DoesNotContain(OpenFiles(), name => name.EndsWith("(deleted)", StringComparison.Ordinal));
    }

    [Fact]
    public async Task ReadersSeeOldOrNewNeverAMixAndNeverBackwards()
    {
        using var store = Open(Data);
        Apply(store, 1);
        using var stop = new CancellationTokenSource();
        using var looked = new CountdownEvent(2);
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Factory.StartNew(
            () => LookUntil(store, looked, stop.Token),
            CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default)).ToArray();
        Assert.True(looked.Wait(Patience, TestContext.Current.CancellationToken));
        for (var n = 2UL; n <= 60; n += 3)
        {
            // A flush is under way, or about to be, when the swap comes.
            Apply(store, n);
            var checkpoint = Task.Run(store.Checkpoint, TestContext.Current.CancellationToken);
            Install(store, n + 1);
            await checkpoint.WaitAsync(Patience, TestContext.Current.CancellationToken);
            Apply(store, n + 2);
        }

        await stop.CancelAsync();
        foreach (var last in await Task.WhenAll(readers))
        {
            Assert.InRange(last, 1ul, 61ul);
        }

        Assert.Equal(61ul, store.AppliedIndex);
    }

    [Fact]
    public void ApplyGoesOnWhileTheSnapshotComesAndTheLaterStateWins()
    {
        using var store = Open(Data);
        Apply(store, 1);
        using (var install = StoreInstall.Begin(store, Manifest(5)))
        {
            var file = File(5);
            Feed(install, file.AsSpan(0, file.Length / 2));
            Apply(store, 2);
            store.Checkpoint();
            Feed(install, file.AsSpan(file.Length / 2));
            install.Complete();
            Apply(store, 6);
            var refused = Assert.Throws<InvalidOperationException>(install.Commit);
            Assert.Contains("already of 6", refused.Message, StringComparison.Ordinal);
        }

        Apply(store, 7);
        store.Checkpoint();
        Assert.Equal((7ul, 0ul), (store.DurableIndex, store.DurablePosition.InstalledIndex));
        Install(store, 8);
        CheckIsInstalled(store, 8);
    }

    [Fact]
    public void OneInstallAtATimeAndNotAfterItsEnd()
    {
        var store = Open(Data);
        var install = StoreInstall.Begin(store, Manifest(5));
        Assert.Throws<InvalidOperationException>(() => StoreInstall.Begin(store, Manifest(6)));
        Assert.Throws<InvalidOperationException>(store.Dispose);
        Feed(install, File(5));
        install.Complete();
        Assert.Throws<InvalidOperationException>(() => install.Write([1]));
        install.Commit();
        Assert.Throws<InvalidOperationException>(install.Commit);
        install.Dispose();
        Assert.Throws<ObjectDisposedException>(() => install.Write([1]));
        Assert.Throws<ObjectDisposedException>(install.Commit);
        CheckIsInstalled(store, 5);
        store.Dispose();
    }

    [Fact]
    public void AnInstallThatIsGivenUpLeavesNothing()
    {
        using var store = Open(Data);
        Apply(store, 1);
        var file = File(5);
        foreach (var length in (ReadOnlySpan<int>)[0, 1, 100, file.Length / 2, file.Length - 1, file.Length])
        {
            using (var install = StoreInstall.Begin(store, Manifest(5)))
            {
                Feed(install, file.AsSpan(0, length));
            }

            Assert.Equal(["LOCK", "lmdb"], Names(Data));
        }

        using var view = store.OpenView();
        Assert.Equal(1ul, Of(view));
    }

    [Fact]
    public void DamagedOrUnexpectedSnapshotsAreRefusedAndTheStateStays() => Seeds.Run(nameof(DamagedOrUnexpectedSnapshotsAreRefusedAndTheStateStays), random =>
    {
        using var store = Open(Data);
        Apply(store, 1);
        var file = File(5);
        foreach (var damaged in Damages(file, random))
        {
            Refuse(store, Manifest(5), damaged);
        }

        Refuse(store, Manifest(5) with { Index = 6 }, file);
        Refuse(store, Manifest(5) with { Term = 9 }, file);
        Refuse(store, Manifest(5) with { Count = 1 }, file);
        Refuse(store, Manifest(5) with { EngineState = default }, file);
        Refuse(store, Manifest(5), SnapshotSupport.Write(
            [new("a"u8.ToArray(), [1], ValueTag.Hash)], Header(5) with { Count = 1 }));
        Install(store, 5);
        CheckIsInstalled(store, 5);
    });

    [Fact]
    public void KeysOfEveryLengthAndLargeValuesAreInstalledWhole() => Seeds.Run(nameof(KeysOfEveryLengthAndLargeValuesAreInstalledWhole), random =>
    {
        var maker = new DiskKeyMaker(random.Next());
        var keys = new SortedSet<byte[]>(ByteOrder.Instance) { Array.Empty<byte>() };
        while (keys.Count < 400)
        {
            _ = keys.Add(maker.Next());
        }

        var records = keys.Select((key, i) => new SnapshotRecord(key, new byte[i % 97 == 0 ? 3_000_000 : i])).ToList();
        records.Add(new SnapshotRecord([.. Enumerable.Repeat((byte)0xFF, 65_536)], new byte[20_000_000]));
        records = [.. records.DistinctBy(record => Convert.ToHexString(record.Key))];
        var header = new SnapshotHeader(7, 2, 0, records.Count, []);
        using (var store = Open(Data))
        {
            using (var install = StoreInstall.Begin(store, Manifest(header)))
            {
                Feed(install, SnapshotSupport.Write(records, header), 100_000);
                install.Commit();
            }

            using var view = store.OpenView();
            using var cursor = view.Scan(default);
            foreach (var record in records)
            {
                Assert.True(cursor.MoveNext());
                Assert.True(cursor.Key.SequenceEqual(record.Key));
                Assert.True(cursor.Value.SequenceEqual(record.Value));
            }

            Assert.False(cursor.MoveNext());
            Assert.Equal(records.Count, view.Count);
        }

        Assert.Empty(Store.Verify(Data).Findings);
    });

    [Fact]
    public void TheMapGrowsWhileBuildingAndAfterTheSwapAtItsNewPlace()
    {
        var records = Enumerable.Range(0, 70).Select(i => new SnapshotRecord(Key(i), new byte[1_000_000])).ToList();
        var header = new SnapshotHeader(7, 2, 0, records.Count, []);
        using (var store = Open(Data, mapBytes: 48L << 20))
        {
            // A reader of the old files: its lock file must not be the one the new files are opened with again.
            using var old = store.OpenView();
            using (var install = StoreInstall.Begin(store, Manifest(header)))
            {
                Feed(install, SnapshotSupport.Write(records, header), 1 << 20);
                install.Commit();
            }

            var mapBytes = store.Status.MapBytes;
            Assert.InRange(mapBytes, 96L << 20, 1L << 30);
            var more = 0;
            while (store.Status.MapBytes == mapBytes)
            {
                Assert.InRange(++more, 1, 20);
                var view = store.BeginBatch();
                view.Put(Key(1000 + more), new byte[30_000_000]);
                store.Publish(7 + (ulong)more, 2, 0);
                store.Checkpoint();
            }

            Assert.Equal(0ul, Of(old));
            using var now = store.OpenView();
            Assert.Equal(70 + more, now.Count);
        }

        Assert.Empty(Store.Verify(Data).Findings);
    }

    [Fact]
    public async Task AFlushThatWaitsForDiskSpaceDoesNotHoldUpTheSwap()
    {
        using var store = Open(Data);
        using var refused = new ManualResetEventSlim();
        store.FlushFailpoint = () =>
        {
            refused.Set();
            throw new DiskFullException(28, "test", "no space");
        };
        Apply(store, 1);
        Assert.Throws<IOException>(store.Checkpoint);
        Assert.True(refused.Wait(Patience, TestContext.Current.CancellationToken));
        var begun = Task.Run(() => Install(store, 5), TestContext.Current.CancellationToken);
        await begun.WaitAsync(Patience, TestContext.Current.CancellationToken);
        CheckIsInstalled(store, 5);
        Assert.Null(store.WriteRefusal);
        store.FlushFailpoint = null;
        Apply(store, 6);
        store.Checkpoint();
        Assert.Equal(6ul, store.DurableIndex);
    }

    [Fact]
    public void WhatWaitedForDiskSpaceIsFlushedAfterARefusedSwap()
    {
        using var store = Open(Data);
        store.FlushFailpoint = static () => throw new DiskFullException(28, "test", "no space");
        Apply(store, 6);
        Assert.Throws<IOException>(store.Checkpoint);
        using (var install = StoreInstall.Begin(store, Manifest(5)))
        {
            Feed(install, File(5));
            Assert.Throws<InvalidOperationException>(install.Commit);
        }

        store.FlushFailpoint = null;
        Apply(store, 7);
        while (store.DurableIndex < 7)
        {
            // The attempt before the last may still report the full disk.
            _ = Record.Exception(store.Checkpoint);
        }

        using var view = store.OpenView();
        Assert.Equal(7ul, Of(view));
    }

    [Fact]
    public async Task OldAndNewStateEachHaveAllReaderSlots()
    {
        using var store = Open(Data);
        Apply(store, 1);
        var views = new List<StoreReadView>();
        var slots = new DiskOptions().ReadersMax;
        while (views.Count < slots)
        {
            views.Add(store.OpenView());
        }

        Assert.Throws<ReadersExhaustedException>(() => store.OpenView());
        Install(store, 5);
        while (views.Count < 2 * slots)
        {
            views.Add(store.OpenView());
        }

        Assert.Throws<ReadersExhaustedException>(() => store.OpenView());
        Assert.Equal((1ul, 5ul), (Of(views[slots - 1]), Of(views[slots])));
        views.ForEach(view => view.Dispose());
        await Assert.Single(store.Replaced).WaitAsync(Patience, TestContext.Current.CancellationToken);
        Apply(store, 6);
        store.Checkpoint();
    }

    private static void CheckIsInstalled(Store store, ulong n)
    {
        using var view = store.OpenView(out var engineState);
        Assert.Equal(n, Of(view));
        Assert.Equal(Engine(n), engineState);
        var durable = store.DurablePosition;
        Assert.Equal((n, Term(n), n, Term(n)), (durable.Index, durable.Term, durable.InstalledIndex, durable.InstalledTerm));
        Assert.Equal(Engine(n), durable.EngineState.ToArray());
        Assert.Equal(Count(n), store.Status.Keys);
        Assert.Equal((long)n, store.ClockMs);
    }

    private static ulong LookUntil(Store store, CountdownEvent looked, CancellationToken stop)
    {
        var last = 0UL;
        var first = true;
        while (first || !stop.IsCancellationRequested)
        {
            using var view = store.OpenView();
            var n = Of(view);
            Assert.True(n >= last, $"state {n} after {last}");
            _ = store.Status;
            last = n;
            if (first)
            {
                _ = looked.Signal();
                first = false;
            }
        }

        return last;
    }

    private static IEnumerable<byte[]> Damages(byte[] file, Random random)
    {
        yield return [];
        yield return [.. file, 0];
        yield return [.. file, .. file];
        for (var i = 0; i < 15; i++)
        {
            yield return file[..random.Next(file.Length)];
        }

        for (var i = 0; i < 30; i++)
        {
            var flipped = file.ToArray();
            flipped[random.Next(file.Length)] ^= (byte)(1 << random.Next(8));
            yield return flipped;
        }
    }

    private void Refuse(Store store, InstallManifest manifest, byte[] file)
    {
        using (var install = StoreInstall.Begin(store, manifest))
        {
            // A write may hear of it already, or only the end.
            _ = Assert.ThrowsAny<IOException>(() =>
            {
                Feed(install, file);
                install.Complete();
            });
            _ = Assert.ThrowsAny<IOException>(install.Commit);
        }

        using var view = store.OpenView();
        Assert.Equal(1ul, Of(view));
        Assert.Equal(0ul, store.DurablePosition.InstalledIndex);
        Assert.Equal(["LOCK", "lmdb"], Names(Data));
    }

    private string[] OpenFiles() => Directory.GetFiles("/proc/self/fd")
        .Select(link => new FileInfo(link).LinkTarget ?? "").Where(name => name.StartsWith(Data, StringComparison.Ordinal)).ToArray();
}
