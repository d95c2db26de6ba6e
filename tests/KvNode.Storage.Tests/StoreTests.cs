using System.Text;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>The store as a whole (buffers, flush thread and LMDB) against a sorted dictionary.</summary>
public sealed class StoreTests : IDisposable
{
    private readonly string _directory = Path.Combine(Path.GetTempPath(), "kvnode-store-" + Guid.NewGuid().ToString("N"));

    public void Dispose()
    {
        if (Directory.Exists(_directory))
        {
            Directory.Delete(_directory, recursive: true);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void RandomBatchesGiveWhatASortedDictionaryGives(int seed)
    {
        var random = new Random(seed);
        var model = new SortedDictionary<byte[], byte[]>(ByteOrder.Instance);
        var index = 0UL;
        for (var life = 0; life < 4; life++)
        {
            using var store = Open(bufferBytes: random.Next(2) == 0 ? 64 * 1024 : 4 * 1024 * 1024);
            Assert.Equal(index, store.AppliedIndex);
            for (var batch = 0; batch < 60; batch++)
            {
                ApplyRandomBatch(random, store, model, ++index);
                if (random.Next(10) == 0)
                {
                    store.Checkpoint();
                }

                CheckSome(random, store, model);
            }

            CheckAll(store, model);
        }
    }

    [Fact]
    public void AViewKeepsShowingItsMomentWhileWritesAndFlushesGoOn()
    {
        using var store = Open(bufferBytes: 64 * 1024);
        Write(store, 1, 1, w => w.Put("a"u8, "old"u8));
        using var view = store.OpenView();
        for (var i = 2UL; i < 200; i++)
        {
            var value = new byte[1000];
            Write(store, i, 1, w =>
            {
                w.Put("a"u8, "new"u8);
                w.Put(Encoding.ASCII.GetBytes($"b{i}"), value);
            });
        }

        store.Checkpoint();
        Write(store, 200, 1, w => w.Clear());
        store.Checkpoint();
        Assert.True(view.TryGet("a"u8, out var seen));
        Assert.Equal("old", Encoding.ASCII.GetString(seen));
        Assert.Equal(1, view.Count);
        using var cursor = view.Scan(default);
        Assert.True(cursor.MoveNext());
        Assert.Equal("a", Encoding.ASCII.GetString(cursor.Key));
        Assert.False(cursor.MoveNext());
    }

    [Fact]
    public async Task ReadersOnOtherThreadsSeeWholeBatchesOnly()
    {
        // Every batch moves one unit from one key to another and rewrites a counter: the sum never changes.
        using var store = Open(bufferBytes: 32 * 1024);
        Write(store, 1, 1, w =>
        {
            for (var k = 0; k < 10; k++)
            {
                w.Put([(byte)k], BitConverter.GetBytes(100L));
            }
        });
        using var stop = new CancellationTokenSource();
        using var looked = new ManualResetEventSlim();
        var reader = Task.Factory.StartNew(
            () => CountSumsUntil(store, looked, stop.Token), stop.Token, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Assert.True(looked.Wait(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken));
        var random = new Random(7);
        for (var i = 2UL; i < 20_000; i++)
        {
            byte from = (byte)random.Next(10), to = (byte)random.Next(10);
            Write(store, i, 1, w =>
            {
                Add(w, from, -1);
                if (i % 1000 == 0)
                {
                    Rewrite(w);
                }

                Add(w, to, 1);
            });
        }

        await stop.CancelAsync();
        Assert.True(await reader > 0);
    }

    [Fact]
    public void WhatWasNotFlushedIsNotClaimedToBeDurable()
    {
        ulong durable;
        using (var store = Open(bufferBytes: 1 << 20))
        {
            Write(store, 5, 2, w => w.Put("k"u8, "v"u8));
            Assert.Equal(0UL, store.DurableIndex);
            store.Checkpoint();
            durable = store.DurableIndex;
            Assert.Equal((5UL, 2UL), (durable, store.DurableTerm));
        }

        using var again = Open(bufferBytes: 1 << 20);
        Assert.Equal(durable, again.DurableIndex);
        Assert.Equal(2UL, again.DurableTerm);
    }

    [Fact]
    public void TheLogIsMadeDurableBeforeTheStore()
    {
        var asked = new List<ulong>();
        using var store = Open(bufferBytes: 1 << 20, ensure: asked.Add);
        Write(store, 9, 1, w => w.Put("k"u8, "v"u8));
        store.Checkpoint();
        Assert.Contains(9UL, asked);
    }

    [Fact]
    public void EngineStateIsDurableExactlyWithItsIndex()
    {
        // The bytes name their index, so any mix of an index and another one's bytes shows, at whatever moment a flush cuts.
        using (var store = Open(bufferBytes: 64 * 1024))
        {
            Assert.Equal(0, store.DurablePosition.EngineState.Length);
            for (var i = 1UL; i <= 3000; i++)
            {
                var view = store.BeginBatch();
                view.Put(BitConverter.GetBytes(i), new byte[500]);
                store.Publish(i, 1, (long)i, EngineStateAt(i));
                var durable = store.DurablePosition;
                Assert.Equal(EngineStateAt(durable.Index), durable.EngineState.ToArray());
                if (i % 100 == 0)
                {
                    using var cut = store.OpenView(out var engineState);
                    Assert.Equal(i, cut.Index);
                    Assert.Equal(EngineStateAt(i), engineState);
                }
            }
        }

        using var again = Open(bufferBytes: 64 * 1024);
        Assert.Equal(3000ul, again.DurablePosition.Index);
        Assert.Equal(EngineStateAt(3000), again.DurablePosition.EngineState.ToArray());
        using var first = again.OpenView(out var bytes);
        Assert.Equal(EngineStateAt(3000), bytes);
    }

    [Fact]
    public void PublishingWithoutEngineStateMeansThereIsNone()
    {
        using var store = Open(bufferBytes: 1 << 20);
        _ = store.BeginBatch();
        store.Publish(1, 1, 0, "something"u8);
        store.Checkpoint();
        Assert.Equal("something"u8.ToArray(), store.DurablePosition.EngineState.ToArray());
        _ = store.BeginBatch();
        store.Publish(2, 1, 0);
        store.Checkpoint();
        Assert.Equal(0, store.DurablePosition.EngineState.Length);
    }

    [Fact]
    public void TheClockDoesNotGoBack()
    {
        using var store = Open(bufferBytes: 1 << 20);
        _ = store.BeginBatch();
        store.Publish(1, 1, 1000);
        Assert.Equal(1000, store.ClockMs);
        _ = store.BeginBatch();
        Assert.Throws<InvariantException>(() => store.Publish(2, 1, 999));
        store.Publish(2, 1, 1000);
    }

    [Fact]
    public void TwoClearsInOneBatchLeaveWhatCameAfterThem()
    {
        using var store = Open(bufferBytes: 1 << 20);
        Write(store, 1, 1, w => w.Put("before"u8, "1"u8));
        store.Checkpoint();
        Write(store, 2, 1, w =>
        {
            w.Put("x"u8, "1"u8);
            w.Clear();
            w.Put("y"u8, "2"u8);
            w.Clear();
            w.Put("z"u8, "3"u8);
            Assert.False(w.Delete("before"u8));
            Assert.Equal(1, w.Count);
        });
        for (var i = 0; i < 2; i++)
        {
            using var view = store.OpenView();
            Assert.Equal(1, view.Count);
            Assert.False(view.Exists("before"u8));
            Assert.False(view.Exists("y"u8));
            Assert.True(view.Exists("z"u8));
            store.Checkpoint();
        }
    }

    [Fact]
    public void ASecondProcessIsToldWhoHoldsTheDirectory()
    {
        using var store = Open(bufferBytes: 1 << 20);
        var error = Assert.ThrowsAny<IOException>(() => Open(bufferBytes: 1 << 20));
        Assert.Contains(_directory, error.Message, StringComparison.Ordinal);
    }

    private static long CountSumsUntil(Store store, ManualResetEventSlim looked, CancellationToken stop)
    {
        var seen = 0L;
        while (seen == 0 || !stop.IsCancellationRequested)
        {
            using var view = store.OpenView();
            long byGet = 0, byScan = 0;
            for (var k = 0; k < 10; k++)
            {
                Assert.True(view.TryGet([(byte)k], out var value));
                byGet += BitConverter.ToInt64(value);
            }

            using var cursor = view.Scan(new KeyRange { Descending = seen % 2 == 0 });
            while (cursor.MoveNext())
            {
                byScan += BitConverter.ToInt64(cursor.Value);
            }

            Assert.Equal((1000L, 1000L, 10L), (byGet, byScan, view.Count));
            seen++;
            looked.Set();
        }

        return seen;
    }

    private static void Add(WriteView view, byte key, long amount)
    {
        Assert.True(view.TryGet([key], out var value));
        view.Put([key], BitConverter.GetBytes(BitConverter.ToInt64(value) + amount));
    }

    // Clears and writes everything again, within one batch.
    private static void Rewrite(WriteView view)
    {
        var all = new List<(byte[] Key, byte[] Value)>();
        using (var cursor = view.Scan(default))
        {
            while (cursor.MoveNext())
            {
                all.Add((cursor.Key.ToArray(), cursor.Value.ToArray()));
            }
        }

        view.Clear();
        foreach (var (key, value) in all)
        {
            view.Put(key, value);
        }
    }

    private static void ApplyRandomBatch(
        Random random, Store store, SortedDictionary<byte[], byte[]> model, ulong index)
    {
        var view = store.BeginBatch();
        var operations = random.Next(1, 200);
        for (var i = 0; i < operations; i++)
        {
            var key = RandomKey(random);
            var dice = random.Next(1000);
            if (dice == 0)
            {
                view.Clear();
                model.Clear();
            }
            else if (dice < 250)
            {
                Assert.Equal(model.Remove(key), view.Delete(key));
            }
            else
            {
                var value = new byte[random.Next(random.Next(20) == 0 ? 20_000 : 200)];
                random.NextBytes(value);
                view.Put(key, value);
                model[key] = value;
            }

            Assert.Equal(model.Count, view.Count);
        }

        store.Publish(index, 1, 0);
    }

    private static void CheckSome(Random random, Store store, SortedDictionary<byte[], byte[]> model)
    {
        using var view = store.OpenView();
        Assert.Equal(model.Count, view.Count);
        for (var i = 0; i < 20; i++)
        {
            var key = RandomKey(random);
            var found = view.TryGet(key, out var value);
            Assert.Equal(model.TryGetValue(key, out var expected), found);
            if (found)
            {
                Assert.True(value.SequenceEqual(expected));
            }
        }

        byte[] start = RandomKey(random), end = RandomKey(random);
        bool exclusive = random.Next(2) == 0, hasEnd = random.Next(2) == 0, descending = random.Next(2) == 0;
        var wanted = model.Keys.Where(k =>
            (ByteOrder.Instance.Compare(k, start) > 0 || (!exclusive && ByteOrder.Instance.Compare(k, start) == 0)) &&
            (!hasEnd || ByteOrder.Instance.Compare(k, end) < 0)).ToList();
        if (descending)
        {
            wanted.Reverse();
        }

        using var cursor = view.Scan(new KeyRange
        {
            Start = start,
            StartExclusive = exclusive,
            End = end,
            HasEnd = hasEnd,
            Descending = descending,
        });
        foreach (var key in wanted)
        {
            Assert.True(cursor.MoveNext());
            Assert.Equal(Convert.ToHexString(key), Convert.ToHexString(cursor.Key));
            Assert.True(cursor.Value.SequenceEqual(model[key]));
        }

        Assert.False(cursor.MoveNext());
        Assert.False(cursor.MoveNext());
    }

    private static void CheckAll(Store store, SortedDictionary<byte[], byte[]> model)
    {
        using var view = store.OpenView();
        using var cursor = view.Scan(default);
        foreach (var (key, value) in model)
        {
            Assert.True(cursor.MoveNext());
            Assert.True(cursor.Key.SequenceEqual(key));
            Assert.True(cursor.Value.SequenceEqual(value));
            Assert.Equal(ValueTag.String, cursor.Tag);
        }

        Assert.False(cursor.MoveNext());
    }

    // Few enough different keys that they meet again; some long ones that share their beginnings; the empty key.
    private static byte[] RandomKey(Random random)
    {
        switch (random.Next(12))
        {
            case 0:
                return [];
            case 1:
                var longKey = new byte[random.Next(1, 4) * 400 + random.Next(3)];
                longKey.AsSpan().Fill((byte)(random.Next(2) * 255));
                longKey[^1] = (byte)random.Next(4);
                return longKey;
            case 2:
                return [(byte)random.Next(256), (byte)random.Next(4)];
            default:
                return Encoding.ASCII.GetBytes($"key:{random.Next(2000):D12}");
        }
    }

    private static void Write(Store store, ulong index, ulong term, Action<WriteView> write)
    {
        write(store.BeginBatch());
        store.Publish(index, term, 0);
    }

    // Of different lengths, none at every seventh index.
    private static byte[] EngineStateAt(ulong index) =>
        index % 7 == 0 ? [] : Encoding.ASCII.GetBytes($"as of {index}").Concat(new byte[index % 50]).ToArray();

    private Store Open(long bufferBytes, Action<ulong>? ensure = null) => Store.Open(_directory, new StoreOptions
    {
        WriteBufferBytes = bufferBytes,
        FlushInterval = TimeSpan.FromMilliseconds(20),
        EnsureLogDurable = ensure,
        Fatal = e => throw new InvalidOperationException("the store gave up", e),
    });

    private sealed class ByteOrder : IComparer<byte[]>
    {
        public static ByteOrder Instance { get; } = new();

        public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
    }
}
