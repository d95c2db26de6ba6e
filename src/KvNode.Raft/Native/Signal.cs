using System.Runtime.InteropServices;

namespace KvNode.Native;

/// <summary>
/// One thread sleeps, any other wakes it: an event that resets itself, on a futex (futex(2)).
/// </summary>
/// <remarks>
/// <para>Not Monitor.Wait: there the sleeper is woken while the other one still holds the lock, runs into it and sleeps again,
/// and the runtime's own wait objects stand in between: three switches of context for one message. Here it is one, and a
/// call that finds nobody asleep is an exchange of one word.</para>
/// <para>The sleeper's part is <see cref="Reset"/>, then a look whether there is something to do, then <see cref="Wait"/>: what
/// is added and told between the look and the sleep ends the sleep at once. It may wake without a reason. Others may call
/// <see cref="Set"/> from any thread, best without holding a lock that the sleeper needs.</para>
/// </remarks>
internal sealed unsafe class Signal
{
    private const int Asleep = -1;
    private const int Unset = 0;
    private const int IsSet = 1;

    // Pinned: the kernel is given its address. Alone in a cache line.
    private readonly int[] _memory = GC.AllocateArray<int>(32, pinned: true);

    private int* Word => (int*)Marshal.UnsafeAddrOfPinnedArrayElement(_memory, 16);

    /// <summary>Ends the sleep under way, or the next one before it begins. What was written before is seen after it.</summary>
    public void Set()
    {
        if (Interlocked.Exchange(ref *Word, IsSet) == Asleep)
        {
            Libc.FutexWake(Word);
        }
    }

    /// <summary>Forgets what was set until now.</summary>
    public void Reset() => _ = Interlocked.Exchange(ref *Word, Unset);

    /// <summary>Sleeps until <see cref="Set"/>, or the time is up; -1: no limit.</summary>
    public void Wait(int milliseconds)
    {
        if (milliseconds == 0 || Interlocked.CompareExchange(ref *Word, Asleep, Unset) != Unset)
        {
            return;
        }

        Libc.FutexWait(Word, Asleep, milliseconds);
        _ = Interlocked.CompareExchange(ref *Word, Unset, Asleep);
    }
}
