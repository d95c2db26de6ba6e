using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace KvNode.Storage;

/// <summary>
/// A fast 64-bit hash of a key: multiply two words into 128 bits and fold, the mixing step of the wyhash family.
/// </summary>
/// <remarks>
/// Seeded per process, so that nobody can prepare keys that collide. Never persisted. Every multiplier that a key's own
/// bytes go into is masked by a secret: were one a known constant, a key that holds that constant would make the
/// product 0 and cancel whatever stands beside it, seed included.
/// </remarks>
internal static class KeyHash
{
    private const ulong LengthMask = 0xe7037ed1a0b428db;

    private static readonly ulong Seed = RandomWord();
    private static readonly ulong FirstMask = RandomWord();
    private static readonly ulong LongMask = RandomWord();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Of(ReadOnlySpan<byte> key)
    {
        ref var start = ref MemoryMarshal.GetReference(key);
        var length = key.Length;
        ulong first, last, state = Seed;
        if (length >= 8)
        {
            if (length > 16)
            {
                state = Long(key, state);
            }

            first = Word(ref start, length <= 16 ? 0 : length - 16);
            last = Word(ref start, length - 8);
        }
        else if (length >= 4)
        {
            first = Unsafe.ReadUnaligned<uint>(ref start);
            last = Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref start, length - 4));
        }
        else
        {
            first = length == 0 ? 0 : (ulong)start << 16 | (ulong)key[length >> 1] << 8 | key[length - 1];
            last = 0;
        }

        return Mix(LengthMask ^ (ulong)length, Mix(first ^ FirstMask, last ^ state));
    }

    private static ulong Long(ReadOnlySpan<byte> key, ulong state)
    {
        ref var start = ref MemoryMarshal.GetReference(key);
        for (var at = 0; at + 16 < key.Length; at += 16)
        {
            state = Mix(Word(ref start, at) ^ LongMask, Word(ref start, at + 8) ^ state);
        }

        return state;
    }

    private static ulong RandomWord() => MemoryMarshal.Read<ulong>(RandomNumberGenerator.GetBytes(sizeof(ulong)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Word(ref byte start, int offset) => Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref start, offset));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Mix(ulong left, ulong right)
    {
        var high = Math.BigMul(left, right, out var low);
        return high ^ low;
    }
}
