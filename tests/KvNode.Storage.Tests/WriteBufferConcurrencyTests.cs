using System.Buffers.Binary;
using Xunit;

namespace KvNode.Storage.Tests;

/// <summary>One writer, readers without locks: what a published sequence number promises them.</summary>
/// <remarks>They keep every core busy, and so nothing runs beside them: others wait for a thread of the pool.</remarks>
[Collection(nameof(WholeProcess))]
public sealed class WriteBufferConcurrencyTests
{
    private const int Rounds = 20;
    private const int PairsPerRound = 400;
    private const int Readers = 2;

    [Fact]
    public async Task ReadersSeeBothWritesOfASequenceNumberOrNeither()
    {
        using var race = new Race();
        await race.RunAsync(static (race, random) =>
        {
            var published = race.Published;
            var pair = (ulong)random.NextInt64((long)published + 20) + 1;
            Span<byte> key = stackalloc byte[9];
            for (byte side = 0; side < 2; side++)
            {
                PairKey(key, side, pair);
                var found = race.Buffer.TryGet(published, key, out var value);
                Assert.Equal(pair <= published ? BufferLookup.Value : BufferLookup.Missing, found);
                Assert.True(found == BufferLookup.Missing || BinaryPrimitives.ReadUInt64LittleEndian(value) == pair);

                // The pair that every batch overwrites stands, on both sides, where the published batch left it.
                PairKey(key, side, 0);
                found = race.Buffer.TryGet(published, key, out value);
                Assert.Equal(published == 0 ? BufferLookup.Missing : BufferLookup.Value, found);
                Assert.True(published == 0 || BinaryPrimitives.ReadUInt64LittleEndian(value) == published);
            }
        });
    }

    [Fact]
    public async Task CursorsOpenedWhileTheWriterWritesAreOrderedAndComplete()
    {
        using var race = new Race();
        await race.RunAsync(static (race, random) =>
        {
            var published = race.Published;
            using var cursor = race.Buffer.OpenCursor(published);
            var descending = random.Next(2) == 0;
            var more = descending ? cursor.SeekLast() : cursor.SeekAtOrAfter(default);
            var seen = 0UL;
            Span<byte> last = stackalloc byte[9];
            while (more)
            {
                var order = last.SequenceCompareTo(cursor.Key);
                Assert.True(seen == 0 || (descending ? order > 0 : order < 0));
                cursor.Key.CopyTo(last);
                seen++;
                more = descending ? cursor.MovePrevious() : cursor.MoveNext();
            }

            Assert.Equal(published == 0 ? 0 : 2 * published + 2, seen);
        });
    }

    [Fact]
    public async Task AVersionIsWholeWhenItCanBeReached()
    {
        // Not by a published number but as soon as the writer links it: its bytes must all be in place by then.
        using var race = new Race();
        await race.RunAsync(static (race, _) =>
        {
            Span<byte> key = stackalloc byte[9];
            for (byte side = 0; side < 2; side++)
            {
                foreach (var pair in (ReadOnlySpan<ulong>)[0, race.Published + 1, race.Published + 2])
                {
                    PairKey(key, side, pair);
                    if (race.Buffer.TryGet(ulong.MaxValue, key, out var value) != BufferLookup.Missing)
                    {
                        Assert.Equal(Race.ValueBytes, value.Length);
                        Assert.Equal(BinaryPrimitives.ReadUInt64LittleEndian(value), BinaryPrimitives.ReadUInt64LittleEndian(value[^8..]));
                        Assert.NotEqual(0UL, BinaryPrimitives.ReadUInt64LittleEndian(value));
                    }
                }
            }
        });
    }

    [Fact]
    public async Task AReferenceIsTakenWholeOrNotAtAllWhileTheLastOneIsReleased()
    {
        for (var i = 0; i < 200; i++)
        {
            var buffer = new WriteBuffer(clearsBelow: false);
            buffer.Put(1, "key"u8, "value"u8);
            using var start = new Barrier(Readers + 1);
            var readers = Enumerable.Range(0, Readers).Select(_ => Task.Run(() =>
            {
                start.SignalAndWait(TestContext.Current.CancellationToken);
                while (buffer.TryAddReference())
                {
                    Assert.Equal(BufferLookup.Value, buffer.TryGet(1, "key"u8, out var value));
                    Assert.True(value.SequenceEqual("value"u8));
                    buffer.Release();
                }
            })).ToArray();
            start.SignalAndWait(TestContext.Current.CancellationToken);
            buffer.Release();
            await Task.WhenAll(readers);
            Assert.False(buffer.TryAddReference());
        }
    }

    private static void PairKey(Span<byte> key, byte side, ulong pair)
    {
        // Scattered, so that new keys fall between old ones.
        BinaryPrimitives.WriteUInt64BigEndian(key, pair * 0x9E37_79B9_7F4A_7C15);
        key[8] = side;
    }

    /// <summary>A writer that writes pairs of keys, and readers that look at the same time until it is done.</summary>
    private sealed class Race : IDisposable
    {
        public const int ValueBytes = 200;

        private ulong _published;
        private long _looks;
        private int _readersLeft = Readers;
        private volatile bool _done;

        public WriteBuffer Buffer { get; } = new(clearsBelow: false);

        public ulong Published => Volatile.Read(ref _published);

        public async Task RunAsync(Action<Race, Random> look)
        {
            var tasks = new List<Task>();
            for (var i = 0; i < Readers; i++)
            {
                var random = new Random(i);
                tasks.Add(Task.Factory.StartNew(() => Read(look, random), TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default));
            }

            tasks.Add(Task.Factory.StartNew(Write, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default));
            await Task.WhenAll(tasks);
        }

        public void Dispose() => Buffer.Release();

        private void Read(Action<Race, Random> look, Random random)
        {
            try
            {
                // Once more after the end: then all of it must be there.
                bool done;
                do
                {
                    done = _done;
                    look(this, random);
                    Interlocked.Increment(ref _looks);
                }
                while (!done);
            }
            finally
            {
                Interlocked.Decrement(ref _readersLeft);
            }
        }

        private void Write()
        {
            for (var round = 0; round < Rounds; round++)
            {
                // The readers are looking when a round begins, and some look falls into every round.
                var looks = Interlocked.Read(ref _looks);
                WriteRound();
                SpinWait.SpinUntil(() => Interlocked.Read(ref _looks) > looks || Volatile.Read(ref _readersLeft) < Readers);
            }

            _done = true;
        }

        private void WriteRound()
        {
            Span<byte> key = stackalloc byte[9];
            Span<byte> value = stackalloc byte[ValueBytes];
            for (var i = 0; i < PairsPerRound; i++)
            {
                var pair = _published + 1;
                BinaryPrimitives.WriteUInt64LittleEndian(value, pair);
                BinaryPrimitives.WriteUInt64LittleEndian(value[^8..], pair);
                foreach (var number in (ReadOnlySpan<ulong>)[pair, 0])
                {
                    for (byte side = 0; side < 2; side++)
                    {
                        PairKey(key, side, number);
                        Buffer.Put(pair, key, value);
                    }
                }

                Volatile.Write(ref _published, pair);
            }
        }
    }
}
